//go:build e2e

package harness

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// poll is the time between two looks at a condition.
const poll = 50 * time.Millisecond

// SlowHandOff keeps first tries from becoming rows on a machine that is busy, for tests that count rows.
const SlowHandOff = "WEBHOOK_DISPATCHER_HAND_OFF_AFTER=9s"

// Eventually waits until check returns nil, and fails the test with its last error when that takes longer than limit. It returns how
// long it took.
func Eventually(t *testing.T, limit time.Duration, what string, check func() error) time.Duration {
	t.Helper()
	begun := time.Now()
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return Since(begun)
		}
		if time.Since(begun) >= limit {
			t.Fatalf("%s: not within %s: %v", what, limit, err)
		}
		<-ticker.C
	}
}

// Since returns the time that has passed, in whole milliseconds.
func Since(begun time.Time) time.Duration { return time.Since(begun).Round(time.Millisecond) }

// Throughout fails the test when check returns an error at any time before limit has passed.
func Throughout(t *testing.T, limit time.Duration, what string, check func() error) {
	t.Helper()
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for end := time.Now().Add(limit); time.Now().Before(end); <-ticker.C {
		if err := check(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// Want returns an error that names got unless it is the value wanted.
func Want[T comparable](what string, got, wanted T) error {
	if got != wanted {
		return fmt.Errorf("%s is %v, want %v", what, got, wanted)
	}
	return nil
}

// AtLeast returns an error unless got is wanted or more.
func AtLeast(got, wanted int) error {
	if got < wanted {
		return fmt.Errorf("%d, want %d at least", got, wanted)
	}
	return nil
}

// Soak tells whether the tests of load run in their long form; see `make soak`.
var Soak = os.Getenv("WEBHOOK_DISPATCHER_SOAK") == "1"

// Sized returns the size of a test: short in CI, long in a soak.
func Sized[T any](short, long T) T {
	if Soak {
		return long
	}
	return short
}
