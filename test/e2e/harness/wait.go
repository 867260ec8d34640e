//go:build e2e

package harness

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// poll is the time between two checks of a condition.
const poll = 50 * time.Millisecond

// SlowHandOff is a setting that keeps first tries from becoming rows on a busy machine, for tests
// that count rows.
const SlowHandOff = "WEBHOOK_DISPATCHER_HAND_OFF_AFTER=9s"

// Eventually waits until check returns nil and returns how long that took. After limit it fails the
// test with the last error.
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

// Since is time.Since in whole milliseconds.
func Since(begun time.Time) time.Duration { return time.Since(begun).Round(time.Millisecond) }

// Throughout fails the test if check returns an error before limit has passed.
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

// Want returns an error unless got is wanted.
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

// Soak reports whether load and fault tests run in their long form; see `make soak`.
var Soak = os.Getenv("WEBHOOK_DISPATCHER_SOAK") == "1"

// Sized returns short, or long in a soak.
func Sized[T any](short, long T) T {
	if Soak {
		return long
	}
	return short
}
