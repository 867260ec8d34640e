package rule

import (
	"context"
	"fmt"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/backoff"
)

// Readings that events ask for are spaced, so that the LMS's database sees few of them however many events come: from the begin of one to
// that of the next it takes leastSpacing or spacingFactor times as long as the last one took. After a failure it takes leastSpacing, and
// twice as long after each further one. mostSpacing bounds both: a partition waits meanwhile.
const (
	leastSpacing  = 100 * time.Millisecond
	mostSpacing   = 5 * time.Second
	spacingFactor = 20
)

// spacing says when a reading may be forced next.
type spacing struct {
	next  time.Time
	delay time.Duration // of the last failure, 0 after a success
}

// Fresh returns a snapshot whose reading began at since or later; since may lie ahead, and then Fresh waits. It blocks while rules cannot
// be read, and returns an error only when ctx ends.
//
// It is for events of a contended type, which the plugin sends unless it finds the row disabled. rules adopt disables the row and
// makes it the dispatcher's in one transaction. So if the plugin did not send an event because of that, the transaction had been committed
// when the plugin looked, and a reading that began later has the adopted row. If such a reading does not have it, the plugin has sent the
// event. No clock of another machine has a part in this, nor how often rules are read.
func (r *Refresher) Fresh(ctx context.Context, since time.Time) (*Snapshot, error) {
	if s := r.since(since); s != nil {
		return s, nil
	}
	if err := backoff.Sleep(ctx, time.Until(since)); err != nil {
		return nil, err
	}
	for tries := 0; ; tries++ {
		if tries == 1 {
			r.held.Add(1)
			defer r.held.Add(-1) //nolint:revive // once
		}
		err := r.force(ctx, since)
		if s := r.since(since); s != nil {
			return s, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("wait for rules as they are now: %w", err)
		}
	}
}

// since returns the current snapshot if its reading began at a moment or later, else nil.
func (r *Refresher) since(moment time.Time) *Snapshot {
	if now := r.current.Load(); now != nil && !now.began.Before(moment) {
		return now.Snapshot
	}
	return nil
}

// force reads the rules when it is time for that, unless somebody else has done so meanwhile: callers share a reading.
func (r *Refresher) force(ctx context.Context, since time.Time) error {
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-r.turn }()
	if r.since(since) != nil {
		return nil
	}
	if err := backoff.Sleep(ctx, time.Until(r.forced.next)); err != nil {
		return err
	}
	began := time.Now()
	err := r.refresh(ctx)
	r.forced.ended(began, err != nil && ctx.Err() == nil)
	return err
}

// ended notes a forced reading that has ended now.
func (s *spacing) ended(began time.Time, failed bool) {
	now := time.Now()
	if failed {
		s.delay = min(max(leastSpacing, 2*s.delay), mostSpacing)
		s.next = now.Add(s.delay)
	} else {
		s.delay = 0
		s.next = began.Add(min(max(leastSpacing, spacingFactor*now.Sub(began)), mostSpacing))
	}
}
