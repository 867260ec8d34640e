package queue

import (
	"context"
	"slices"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// unsureClaim is a claim that failed. If only the answer was lost, its rows are leased but not sent
// until the lease has run out; and if that happens often enough, they look like a crash loop.
type unsureClaim struct {
	lane  delivery.Lane
	lease time.Duration
	token delivery.Token
	at    time.Time
	next  time.Time // not asked for again before
}

const (
	// maxUnsure bounds the failed claims remembered; the leases of others run out.
	maxUnsure = 100
	// unsureFor is how long after its failure a claim may still be carried out by a server that has
	// lost its client.
	unsureFor = 5 * time.Second
)

// giveBack has the rows of claims that failed given back, if there are any. A claim is forgotten
// once it had rows, or can no longer get any. One that fails again does not delay the others.
func (c *Claimer) giveBack(ctx context.Context) {
	var failed error
	c.unsure = slices.DeleteFunc(c.unsure, func(u unsureClaim) bool {
		asked := time.Now()
		if ctx.Err() != nil || asked.Before(u.next) {
			return false
		}
		giving, cancel := context.WithTimeout(ctx, claimTime)
		defer cancel()
		n, err := c.store.GiveBack(giving, u.lane, u.lease, u.token)
		if err != nil {
			failed = err
			return asked.Sub(u.at) > u.lease
		}
		return n > 0 || asked.Sub(u.at) > unsureFor
	})
	for i := range c.unsure {
		c.unsure[i].next = time.Now().Add(pollEvery)
	}
	if failed != nil && ctx.Err() == nil {
		c.metrics.failures.Inc()
		c.faults.note(ctx, "give claimed rows back", failed)
	}
}
