package app

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// A database that is away is waited for without end, one whose schema is behind only for the time
// of a migration.
func TestStartupWaits(t *testing.T) {
	t.Parallel()
	away, behind := errors.New("connection refused"), error(&store.SchemaError{})
	for _, test := range []struct {
		name string
		db   func(since time.Duration) error
		want error
		took time.Duration
		logs int // lines
	}{
		{"ready", func(time.Duration) error { return nil }, nil, 0, 0},
		{"away for a day", until(24*time.Hour, away), nil, 24 * time.Hour, 24 * 60},
		{"behind while it is migrated", until(10*time.Second, behind), nil, 10 * time.Second, 1},
		{"behind for good", until(time.Hour, behind), behind, migrationWait, 1},
		{"behind, away, behind", func(since time.Duration) error {
			if since >= 10*time.Second && since < 20*time.Second {
				return away
			}
			return behind
		}, behind, 20*time.Second + migrationWait, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var log strings.Builder
				var s startup
				began := time.Now()
				err := s.wait(t.Context(), func(context.Context) error { return test.db(time.Since(began)) }, slog.New(slog.NewTextHandler(&log, nil)))
				if !errors.Is(err, test.want) {
					t.Errorf("error %v, want %v", err, test.want)
				}
				if took := time.Since(began); took != test.took {
					t.Errorf("waited for %s, want %s", took, test.took)
				}
				if ready := s.ready(); (ready == nil) != (test.want == nil) {
					t.Errorf("readiness afterwards: %v", ready)
				}
				if lines := strings.Count(log.String(), "\n"); lines != test.logs {
					t.Errorf("%d log lines, want %d", lines, test.logs)
				}
			})
		})
	}
}

func until(end time.Duration, err error) func(time.Duration) error {
	return func(since time.Duration) error {
		if since < end {
			return err
		}
		return nil
	}
}

func TestStartupWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		var s startup
		began := time.Now()
		away := func(context.Context) error { return errors.New("away") }
		err := s.wait(ctx, away, slog.New(slog.DiscardHandler))
		if took := time.Since(began); err == nil || took != 90*time.Second {
			t.Errorf("error %v after %s", err, took)
		}
	})
}

// Cleanups run last first, all of them, and once.
func TestCleanups(t *testing.T) {
	t.Parallel()
	var c cleanups
	var order []string
	add := func(name string, err error) {
		c.add(name, func(context.Context) error {
			order = append(order, name)
			return err
		})
	}
	add("first", nil)
	add("second", errors.New("stuck"))
	add("third", nil)
	err := c.run(t.Context())
	if got := strings.Join(order, " "); got != "third second first" {
		t.Errorf("order: %s", got)
	}
	if err == nil || err.Error() != "second: stuck" {
		t.Errorf("error %v", err)
	}
	if err := c.run(t.Context()); err != nil || len(order) != 3 {
		t.Errorf("a second run: %v, %v", err, order)
	}
}
