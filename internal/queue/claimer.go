package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/backoff"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/metric"
)

// ClaimStore is the part of the database that a Claimer needs.
type ClaimStore interface {
	DueLanes(ctx context.Context) ([]delivery.LaneDue, error)
	Claim(ctx context.Context, lane delivery.Lane, room int, lease time.Duration, token delivery.Token) ([]delivery.Row, error)
	GiveBack(ctx context.Context, lane delivery.Lane, lease time.Duration, token delivery.Token) (int, error)
	RuleExists(ctx context.Context, lane delivery.Lane) (bool, error)
	KillLane(ctx context.Context, lane delivery.Lane, reason delivery.Reason, limit int) (int, error)
}

const (
	pollEvery    = time.Second            // how late another replica's row may be noticed
	pollAtLeast  = 20 * time.Millisecond  // pause between polls while lanes are busy
	claimRows    = 32                     // rows in one claim, which keeps locks short
	laneRows     = 512                    // rows of one lane in one poll, so that others get their turn
	claimTime    = 5 * time.Second        // timeout of a claim, which the end of Run does not cut short
	laneRest     = 5 * time.Second        // before a lane whose claim failed is tried again
	orphanEvery  = 30 * time.Second       // how often a rule that is not active is looked up in the database
	killRows     = 500                    // rows of a deleted rule dead-lettered in one statement
	killPause    = 100 * time.Millisecond // between these, to spare the LMS's database
	maxLaneState = 100_000                // lanes remembered between polls
)

// Claimer claims due rows for the consumers that have room.
type Claimer struct {
	options ClaimerOptions
	metrics *claimerMetrics
	ledger  *ledger

	checked map[delivery.Lane]time.Time // when a lane without an active rule was last looked up
	resting map[delivery.Lane]time.Time // until when a lane whose claim failed is skipped
	faults  streakLog                   // of single lanes
	crashes rate.Sometimes              // log lines
	crashed int                         // rows since the last line

	failedClaims []failedClaim
}

// ClaimerOptions configure a Claimer.
type ClaimerOptions struct {
	Store      ClaimStore                 // required
	Consumers  map[delivery.Kind]Consumer // by the kind of row; at least one; rows of other kinds are not claimed
	Settle     func(delivery.Update)      // writes results, as Writer.Settle does; required
	Wakeup     *Wakeup                    // nil: the claimer only polls
	Depth      *DepthMonitor              // learns which rows are being sent; may be nil
	Logger     *slog.Logger               // nil discards
	Registerer prometheus.Registerer      // nil: no metrics
}

// NewClaimer returns a claimer.
func NewClaimer(o ClaimerOptions) (*Claimer, error) {
	if o.Store == nil || len(o.Consumers) == 0 || o.Settle == nil {
		return nil, errors.New("claimer: store, consumers and settle are required")
	}
	o.Wakeup = cmp.Or(o.Wakeup, NewWakeup())
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	metrics, err := newClaimerMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("claimer: %w", err)
	}
	return &Claimer{
		options: o, metrics: metrics, ledger: o.Depth.book(), checked: make(map[delivery.Lane]time.Time),
		resting: make(map[delivery.Lane]time.Time), faults: streakLog{logger: o.Logger}, crashes: rate.Sometimes{Interval: time.Minute},
	}, nil
}

// Run claims until ctx ends.
func (c *Claimer) Run(ctx context.Context) {
	var (
		back backoff.Backoff
		log  = streakLog{logger: c.options.Logger}
	)
	for ctx.Err() == nil {
		wait, err := c.poll(ctx)
		if err != nil && ctx.Err() != nil {
			return
		}
		log.note(ctx, "claim rows", err)
		if err != nil {
			c.metrics.failures.Inc()
			_ = back.Wait(ctx) // the loop's condition asks ctx, too
			continue
		}
		back.Reset()
		c.pause(ctx, wait)
	}
}

// pause waits until the next poll: for wait, or less when woken, but at least pollAtLeast.
func (c *Claimer) pause(ctx context.Context, wait time.Duration) {
	if backoff.Sleep(ctx, pollAtLeast) != nil || wait <= pollAtLeast {
		return
	}
	t := time.NewTimer(wait - pollAtLeast)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.options.Wakeup.signal:
	case <-ctx.Done():
	}
}

// poll claims for every lane with due rows and room, and returns how long until the next poll.
func (c *Claimer) poll(ctx context.Context) (time.Duration, error) {
	c.giveBack(ctx)
	lanes, err := c.options.Store.DueLanes(ctx)
	if err != nil {
		return 0, err
	}
	// So that replicas do not poll in step, and no lane is always last.
	wait := backoff.Jitter(pollEvery)
	rand.Shuffle(len(lanes), func(i, j int) { lanes[i], lanes[j] = lanes[j], lanes[i] })
	var failed error
	worked := false
	for _, d := range lanes {
		if d.Wait > 0 {
			wait = min(wait, d.Wait)
			continue
		}
		if time.Now().Before(c.resting[d.Lane]) {
			continue
		}
		again, err := c.claim(ctx, d.Lane)
		if err != nil {
			if ctx.Err() != nil {
				return 0, err
			}
			failed = err // go on with the other lanes
			remember(c.resting, d.Lane, time.Now().Add(laneRest))
			continue
		}
		worked = true
		delete(c.resting, d.Lane)
		if again {
			wait = 0
		}
	}
	if failed != nil && worked {
		c.metrics.failures.Inc()
		c.faults.note(ctx, "claim rows of a lane", failed)
		failed = nil
	}
	return wait, failed
}

// remember sets what is known of a lane; before that is too much, all else is forgotten.
func remember[T any](known map[delivery.Lane]T, lane delivery.Lane, value T) {
	if len(known) >= maxLaneState {
		clear(known)
	}
	known[lane] = value
}

// claim reports whether the lane may have more due rows and room for them.
func (c *Claimer) claim(ctx context.Context, lane delivery.Lane) (again bool, err error) {
	consumer := c.options.Consumers[lane.Kind]
	if consumer == nil {
		return false, nil
	}
	room, lease, known := consumer.Room(lane)
	if !known {
		return false, c.orphan(ctx, lane)
	}
	delete(c.checked, lane)
	for room = min(room, laneRows); room > 0; room -= claimRows {
		again, err = c.claimSome(ctx, consumer, lane, min(room, claimRows), lease)
		if err != nil || !again || ctx.Err() != nil {
			return again, err
		}
	}
	return again, nil
}

// claimSome claims once, and reports whether it got all that it asked for.
func (c *Claimer) claimSome(
	ctx context.Context, consumer Consumer, lane delivery.Lane, room int, lease time.Duration,
) (all bool, err error) {
	token := delivery.NewToken()
	until := time.Now().Add(lease) // before the claim, so never later than the database's
	// A claim cut short could leave rows leased and unsent until the lease expires.
	claiming, cancel := context.WithTimeout(context.WithoutCancel(ctx), claimTime)
	defer cancel()
	rows, err := c.options.Store.Claim(claiming, lane, room, lease, token)
	if err != nil {
		if len(c.failedClaims) < maxFailedClaims {
			c.failedClaims = append(c.failedClaims, failedClaim{lane: lane, lease: lease, token: token, at: time.Now()})
		}
		return false, err
	}
	c.metrics.claimed.Add(float64(len(rows)))
	c.ledger.claimed(rows, until)
	sound := make([]delivery.Row, 0, len(rows))
	var newest *delivery.Row
	for i := range rows {
		if !rows[i].CrashLoops() {
			sound = append(sound, rows[i])
			continue
		}
		c.options.Settle(delivery.Abort(&rows[i]))
		c.metrics.crashLoops.Inc()
		c.crashed++
		newest = &rows[i]
	}
	if newest != nil {
		c.crashes.Do(func() {
			c.options.Logger.ErrorContext(ctx, "deliveries dead-lettered: the processes that claim them never write a result (crash loop)",
				"webhook_id", newest.ID.String(), "rule_id", lane.RuleID, "claims", newest.Claims, "count", c.crashed)
			c.crashed = 0
		})
	}
	if len(sound) > 0 {
		consumer.Resend(sound, until)
	}
	return len(rows) == room, nil
}

// orphan dead-letters the rows of a rule that no longer exists. A rule that is only absent from the
// snapshot (disabled, invalid, just added) keeps its rows.
func (c *Claimer) orphan(ctx context.Context, lane delivery.Lane) error {
	now := time.Now()
	if last, ok := c.checked[lane]; ok && now.Sub(last) < orphanEvery {
		return nil
	}
	remember(c.checked, lane, now)
	exists, err := c.options.Store.RuleExists(ctx, lane)
	if err != nil || exists {
		return err
	}
	n, err := c.options.Store.KillLane(ctx, lane, delivery.ReasonRuleDeleted, killRows)
	if err != nil {
		return err
	}
	if n > 0 {
		c.metrics.orphaned.Add(float64(n))
		c.options.Logger.WarnContext(ctx, "deliveries dead-lettered: their rule was deleted", "rule_id", lane.RuleID, "count", n)
	}
	if n == killRows { // leave the rest to the next polls, so that other lanes need not wait
		c.checked[lane] = now.Add(killPause - orphanEvery)
	}
	return nil
}

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
	maxFailedClaims = 100             // more are left to the end of their leases
	lateClaim       = 5 * time.Second // how long after its failure a server may still execute a claim
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
		n, err := c.options.Store.GiveBack(giving, u.lane, u.lease, u.token)
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

type claimerMetrics struct{ claimed, failures, crashLoops, orphaned prometheus.Counter }

func newClaimerMetrics(reg prometheus.Registerer) (*claimerMetrics, error) {
	m := &claimerMetrics{
		claimed:  metric.Counter("webhook_dispatcher_rows_claimed_total", "Rows claimed for sending."),
		failures: metric.Counter("webhook_dispatcher_claim_failures_total", "Polls for due rows that failed."),
		crashLoops: metric.Counter("webhook_dispatcher_crash_loops_total",
			"Rows dead-lettered because no process that claimed them wrote a result."),
		orphaned: metric.Counter("webhook_dispatcher_rows_orphaned_total", "Rows dead-lettered because their rule was deleted."),
	}
	return m, metric.Register(reg, m.claimed, m.failures, m.crashLoops, m.orphaned)
}
