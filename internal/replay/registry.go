package replay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode"
)

// Registry gives writer schemas; *decode.Client is one. A daemon waits for it without end, which a person in front of a terminal will not.
type Registry interface {
	decode.Registry
	// Ready says why a question waits for its answer; nil while none does, or while the registry answers that it has no such schema.
	Ready() error
}

// schemaPatience is how long a schema is waited for.
const schemaPatience = 10 * time.Second

// RegistryError says that the schema registry could not be asked.
type RegistryError struct{ cause error }

// Error implements error.
func (e *RegistryError) Error() string {
	return fmt.Sprintf("%s; see that it answers (EVENT_BUS_KAFKA_SCHEMA_REGISTRY_URL) and repeat the command", e.cause)
}

// Unwrap returns why.
func (e *RegistryError) Unwrap() error { return e.cause }

// impatient gives up on a registry that does not answer, and believes it sooner that a schema does not exist.
type impatient struct {
	registry Registry
	schemas  map[uint32]*decode.Schema // beside the registry's own memory, so that a known one costs no timer
	unknown  map[uint32]bool
}

// Schema implements decode.Registry. It also returns a *RegistryError.
func (r *impatient) Schema(ctx context.Context, id uint32) (*decode.Schema, error) {
	if known := r.schemas[id]; known != nil {
		return known, nil
	}
	missing := &decode.Undecodable{Reason: decode.ReasonUnknownSchema, Detail: fmt.Sprintf("the schema registry has no schema %d", id)}
	if r.unknown[id] {
		return nil, missing
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(schemaPatience, func() {
		if err := r.registry.Ready(); err != nil {
			cancel(&RegistryError{err})
		} else {
			cancel(missing)
		}
	})
	defer timer.Stop()
	schema, err := r.registry.Schema(ctx, id)
	if err == nil {
		r.schemas[id] = schema
	} else if errors.Is(err, missing) {
		r.unknown[id] = true
	}
	return schema, err
}
