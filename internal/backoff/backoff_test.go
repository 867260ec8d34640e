package backoff

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestWaitsDoubleUpToTheLongest(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		backoff Backoff
		want    []time.Duration // before jitter
	}{
		"zero value": {want: []time.Duration{
			100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond,
			1600 * time.Millisecond, 3200 * time.Millisecond, 5 * time.Second, 5 * time.Second,
		}},
		"own limits": {
			backoff: Backoff{Min: time.Second, Max: 3 * time.Second},
			want:    []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := test.backoff
			for round := range 2 {
				for i, want := range test.want {
					if got := b.Next(); got < want/2 || got >= want*3/2 {
						t.Errorf("round %d, wait %d: got %s, want %s ±50 %%", round, i, got, want)
					}
				}
				b.Reset()
			}
		})
	}
}

func TestSleepEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("stopped")
		ctx, stop := context.WithCancelCause(t.Context())
		began := time.Now()
		if err := Sleep(ctx, time.Second); err != nil || time.Since(began) != time.Second {
			t.Errorf("got %v after %s, want nil after 1s", err, time.Since(began))
		}
		if err := Sleep(ctx, -time.Second); err != nil {
			t.Errorf("no time: got %v", err)
		}
		time.AfterFunc(time.Second, func() { stop(cause) })
		var b Backoff
		for b.Wait(ctx) == nil {
		}
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("ended after %s, want 2s", took)
		}
		if err := Sleep(ctx, 0); !errors.Is(err, cause) {
			t.Errorf("after the end: got %v, want the cause", err)
		}
	})
}
