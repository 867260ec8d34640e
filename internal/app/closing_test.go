package app

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestWithin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		whole, cancel := context.WithTimeout(t.Context(), stopTime)
		defer cancel()
		for _, c := range []struct {
			what       string
			ctx        context.Context
			most, left time.Duration
			want       time.Duration
		}{
			{"it needs less", whole, 2 * time.Second, 2 * closeTime, 2 * time.Second},
			{"it would need all", whole, time.Minute, 2 * closeTime, stopTime - 2*closeTime},
			{"nobody waits", t.Context(), time.Minute, 2 * closeTime, time.Minute},
		} {
			stop := within(c.most, c.left, func(ctx context.Context) error {
				if end, ok := ctx.Deadline(); !ok || time.Until(end) != c.want {
					t.Errorf("%s: it has %s, want %s", c.what, time.Until(end), c.want)
				}
				return nil
			})
			if err := stop(c.ctx); err != nil {
				t.Errorf("%s: %v", c.what, err)
			}
		}
	})
}
