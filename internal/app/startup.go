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
	startupPoll   = time.Second
	migrationWait = 15 * time.Second // for an outdated schema: a migration may be running
)

// startup waits for the database: for ever while it is unreachable, but only migrationWait while
// its schema is outdated, which an operator must fix.
type startup struct{ problem atomic.Pointer[error] }

// ready returns the problem with the database, nil once the wait is over.
func (s *startup) ready() error {
	if p := s.problem.Load(); p != nil {
		return *p
	}
	return nil
}

func (s *startup) wait(ctx context.Context, check func(context.Context) error, logger *slog.Logger) error {
	var (
		logged    string
		reminders rate.Sometimes
		behind    time.Time
	)
	for {
		err := check(ctx)
		if err == nil {
			s.problem.Store(nil)
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		_, outdated := errors.AsType[*store.SchemaError](err)
		s.problem.Store(&err)
		if text := err.Error(); text != logged {
			logged, reminders = text, rate.Sometimes{Interval: time.Minute}
		}
		reminders.Do(func() { logger.ErrorContext(ctx, "waiting for the database", "error", err) })
		switch {
		case !outdated:
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

// databaseReady returns the problem with the database, if any.
func (a *App) databaseReady(ctx context.Context) error {
	if err := a.startup.ready(); err != nil {
		return err
	}
	if err := a.store.Ping(ctx); err != nil {
		return err
	}
	return a.writer.Ready()
}

// endpointReady says why filters in the request are not answered. The endpoint listens once the
// rules have been read, and needs neither database nor Kafka afterwards.
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
