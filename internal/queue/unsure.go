package queue

import (
	"context"
	"slices"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// unsureClaim is a claim that failed. Where only the answer was lost its rows are leased, and nobody sends them: until the lease has run
// out, and if that happens often enough until they look like a crash loop.
type unsureClaim struct {
	lane  delivery.Lane
	lease time.Duration
	token delivery.Token
	at    time.Time
}

const (
	// maxUnsure bounds what is remembered of a database that fails all claims; the leases of more run out.
	maxUnsure = 100
	// unsureFor is how long after its failure a claim may still be carried out by a server that has lost its client.
	unsureFor = 5 * time.Second
)

// giveBack has the rows of claims that failed given back, if there are any. A claim is forgotten once it had rows, or can no longer
// get any.
func (c *Claimer) giveBack(ctx context.Context) error {
	if len(c.unsure) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, claimTime)
	defer cancel()
	var failed error
	c.unsure = slices.DeleteFunc(c.unsure, func(u unsureClaim) bool {
		if failed != nil {
			return false
		}
		asked := time.Now()
		n, err := c.store.GiveBack(ctx, u.lane, u.lease, u.token)
		if err != nil {
			failed = err
			return asked.Sub(u.at) > u.lease
		}
		return n > 0 || asked.Sub(u.at) > unsureFor
	})
	return failed
}
