package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/backoff"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

const (
	startupPoll = time.Second
	// migrationWait is how long startup waits for a schema that is behind: a migration may be running.
	migrationWait = 15 * time.Second
)

// startup waits for a database that can be used: without end for one that is away, but only for a
// while for one whose schema is behind, because only an operator changes that.
type startup struct{ problem atomic.Pointer[error] }

// ready returns why startup waits, nil when the wait is over.
func (s *startup) ready() error {
	if p := s.problem.Load(); p != nil {
		return *p
	}
	return nil
}

// schemaChecker checks that the database has the tables that this version needs.
type schemaChecker interface {
	CheckSchema(ctx context.Context) error
}

func (s *startup) wait(ctx context.Context, db schemaChecker, logger *slog.Logger) error {
	var (
		logged    string
		reminders rate.Sometimes
		behind    time.Time
	)
	for {
		err := db.CheckSchema(ctx)
		if err == nil {
			s.problem.Store(nil)
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		var schema *store.SchemaError // nil if the schema is fine
		errors.As(err, &schema)
		s.problem.Store(&err)
		if text := err.Error(); text != logged {
			logged, reminders = text, rate.Sometimes{Interval: time.Minute}
		}
		reminders.Do(func() { logger.ErrorContext(ctx, "waiting for the database", "error", err) })
		switch {
		case schema == nil:
			behind = time.Time{}
		case behind.IsZero():
			behind = time.Now()
		case time.Since(behind) >= migrationWait:
			return err
		}
		if err := backoff.Sleep(ctx, startupPoll); err != nil {
			return err
		}
	}
}

// databaseReady returns what is wrong with the database.
func (a *App) databaseReady(ctx context.Context) error {
	if err := a.startup.ready(); err != nil {
		return err
	}
	if err := a.store.Ping(ctx); err != nil {
		return err
	}
	return a.writer.Ready()
}

// endpointReady returns why filters in the request are not answered. It asks neither the database
// nor Kafka: the endpoint listens once the rules have been read, and keeps using them however old
// they get.
func (a *App) endpointReady(context.Context) error {
	select {
	case <-a.endpoint.Ended():
		return fmt.Errorf("it listens no more: %w", cmp.Or(a.endpoint.Err(), errors.New("the daemon is stopping")))
	default:
	}
	if a.endpoint.Addr() != nil {
		return nil
	}
	if err := a.startup.ready(); err != nil {
		return fmt.Errorf("it listens once the rules have been read: %w", err)
	}
	return errors.New("it listens once the rules have been read: they have not been yet")
}
