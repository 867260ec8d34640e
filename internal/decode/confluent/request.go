package confluent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/sr"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/metric"
)

var (
	// errDenied is the answer of the registry itself, unlike a 404 from a proxy or a wrong path.
	errDenied  = errors.New("the registry has no such schema")
	errNotAvro = errors.New("the schema is not self-contained Avro")
)

// request asks once. Errors but errDenied and errNotAvro may pass; none holds a URL or an answer.
func (c *Client) request(ctx context.Context, id uint32) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	found, err := c.api.SchemaByID(ctx, int(id))
	if err == nil && found.Schema == "" {
		err = errors.New("answered without a schema")
	}
	if err == nil && (found.Type != sr.TypeAvro || len(found.References) > 0) {
		err = errNotAvro
	}
	if err != nil {
		err = plainCause(ctx, err, c.timeout.String())
	}
	c.requests.WithLabelValues(outcome(err)).Inc()
	if err == nil || errors.Is(err, errDenied) {
		c.seen.Store(true)
	}
	return found.Schema, err
}

// probe asks for the types of schemas. Not every registry has them: a 404 counts as an answer.
func (c *Client) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	_, err := c.api.SupportedTypes(ctx)
	var answered *sr.ResponseError
	if err == nil || errors.As(err, &answered) && answered.StatusCode == http.StatusNotFound {
		return nil
	}
	return plainCause(ctx, err, c.timeout.String())
}

// plainCause reduces an error of the API client to what operators need.
func plainCause(ctx context.Context, err error, timeout string) error {
	var answered *sr.ResponseError
	var failed *url.Error
	switch {
	case errors.Is(err, errNotAvro):
		return err
	case errors.As(err, &answered):
		switch {
		case answered.StatusCode == http.StatusNotFound && answered.ErrorCode == sr.ErrSchemaNotFound.Code:
			return errDenied
		case answered.StatusCode == http.StatusNotFound:
			return errors.New("answered 404, not as a schema registry would: check the URL's path")
		case answered.StatusCode == http.StatusUnauthorized, answered.StatusCode == http.StatusForbidden:
			return fmt.Errorf("answered %d: check the registry's API key and secret", answered.StatusCode)
		}
		return fmt.Errorf("answered %d", answered.StatusCode)
	case ctx.Err() != nil:
		return errors.New("no answer within " + timeout)
	case errors.As(err, &failed):
		return failed.Err
	}
	return errors.New("the answer holds no schema")
}

// newRequestCounter returns the counter of requests, with all outcomes.
func newRequestCounter(registerer prometheus.Registerer) (*prometheus.CounterVec, error) {
	requests := metric.CounterVec("webhook_dispatcher_registry_requests_total",
		"Requests to the schema registry by outcome: ok, unknown (no such schema), not_avro, error.", "outcome")
	for _, outcome := range []string{"ok", "unknown", "not_avro", "error"} {
		requests.WithLabelValues(outcome)
	}
	return requests, metric.Register(registerer, requests)
}

func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, errDenied):
		return "unknown"
	case errors.Is(err, errNotAvro):
		return "not_avro"
	}
	return "error"
}
