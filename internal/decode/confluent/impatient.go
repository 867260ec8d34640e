package confluent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode"
)

// Patience is how long an impatient registry waits for a schema.
const Patience = 10 * time.Second

// UnreachableError says that the schema registry could not be asked.
type UnreachableError struct{ cause error }

// Error implements error.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("%s; see that it answers (EVENT_BUS_KAFKA_SCHEMA_REGISTRY_URL) and repeat the command", e.cause)
}

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.cause }

// Waiting is a registry that can tell why it waits; *Client is one.
type Waiting interface {
	Registry
	// Ready returns why a question waits; nil if none does, or if the registry denies the schema.
	Ready() error
}

// Impatient returns a registry for a command that somebody waits for: after Patience it gives up
// with an *UnreachableError, or believes that a schema does not exist. It is for one goroutine.
func Impatient(registry Waiting) Registry {
	return &impatient{registry: registry, known: map[uint32]answer{}}
}

type impatient struct {
	registry Waiting
	known    map[uint32]answer // in addition to the registry's own memory, so that a known one costs no timer
}

// Schema implements Registry.
func (r *impatient) Schema(ctx context.Context, id uint32) (*decode.Schema, error) {
	if known, ok := r.known[id]; ok {
		return known.schema, known.err
	}
	missing := unknownSchema(id)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(Patience, func() {
		if err := r.registry.Ready(); err != nil {
			cancel(&UnreachableError{err})
		} else {
			cancel(missing)
		}
	})
	defer timer.Stop()
	schema, err := r.registry.Schema(ctx, id)
	if err == nil || errors.Is(err, missing) {
		r.known[id] = answer{schema, err}
	}
	return schema, err
}
