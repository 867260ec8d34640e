package queue

import (
	"context"
	"slices"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// failedClaim is a claim that returned an error but may have succeeded on the server. Its rows
// would then stay leased, with no one sending them, until the lease expires; repeated often enough,
// they would look like a crash loop.
type failedClaim struct {
	lane  delivery.Lane
	lease time.Duration
	token delivery.Token
	at    time.Time
	next  time.Time // try
}

const (
	maxFailedClaims = 100 // more are left to the end of their leases
	// lateClaim is how long after its failure a server may still execute a claim.
	lateClaim = 5 * time.Second
)

// giveBack releases the rows of failed claims. A claim is forgotten once rows were released, or
// once it can no longer have any. An error affects neither the other claims nor polling.
func (c *Claimer) giveBack(ctx context.Context) {
	var failed error
	c.failedClaims = slices.DeleteFunc(c.failedClaims, func(u failedClaim) bool {
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
		return n > 0 || asked.Sub(u.at) > lateClaim
	})
	for i := range c.failedClaims {
		c.failedClaims[i].next = time.Now().Add(pollEvery)
	}
	if failed != nil && ctx.Err() == nil {
		c.metrics.failures.Inc()
		c.faults.note(ctx, "release rows of failed claims", failed)
	}
}
