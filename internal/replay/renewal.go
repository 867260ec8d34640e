package replay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/plan"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/event"
)

// Renewal makes deliveries due again under new IDs. It copies those whose body is still in a row
// and searches the topics for the events of the others. Copy and Search fill it, and Finish ends
// it.
type Renewal struct {
	r      *Replayer
	rows   *batch
	wanted map[eventKey][]wanted
	search int
	since  time.Time // of the earliest event, zero if one has no time
	failed []Failure
}

// eventKey identifies an event by what its row has. Ids of events are UUIDs.
type eventKey struct{ eventType, id string }

// wanted is a delivery of which the event is searched for.
type wanted struct {
	id   delivery.ID // of the row
	rule *rule.Rule
}

// Failure is a delivery that could not be renewed, and why.
type Failure struct {
	ID  delivery.ID
	Why string
}

// Renewal returns a Renewal without deliveries.
func (r *Replayer) Renewal() *Renewal {
	return &Renewal{r: r, rows: r.newBatch(true), wanted: map[eventKey][]wanted{}}
}

// Searched returns how many deliveries have been given to Search.
func (a *Renewal) Searched() int { return a.search }

// Copy adds a row that has its body.
func (a *Renewal) Copy(ctx context.Context, row *delivery.Row) error {
	d := row.Delivery
	d.ID = delivery.Renew(row.ID, a.r.options.Run)
	return a.rows.add(ctx, &d)
}

// Search adds a row that has no body, or no longer, with its rule as it is now.
func (a *Renewal) Search(row *store.Summary, to *rule.Rule) {
	if a.search == 0 || row.EventTime.Before(a.since) {
		a.since = row.EventTime
	}
	a.search++
	key := eventKey{row.EventType, row.EventID}
	a.wanted[key] = append(a.wanted[key], wanted{row.ID, to.Always()})
}

// skew is how much older than its event a record may be: their times come from two clocks, and
// brokers may write their own.
const skew = time.Hour

// errFound ends a Read when there is nothing left to find.
var errFound = errors.New("all events are found")

// Finish searches the topics from an hour before the earliest event, until all events are found or
// to the present ends, and writes what has not been written. It returns the counts, after an error,
// too, and the deliveries that could not be renewed.
func (a *Renewal) Finish(ctx context.Context) (Counts, []Failure, error) {
	err := a.find(ctx)
	if err == nil {
		err = a.rows.flush(ctx)
	}
	if err == nil {
		for _, missing := range a.wanted {
			for _, w := range missing {
				a.fail(w, "its event is not in the topics (any more)")
			}
		}
	}
	return a.rows.counts, a.failed, err
}

func (a *Renewal) find(ctx context.Context) error {
	if len(a.wanted) == 0 {
		return nil
	}
	since := a.since
	if !since.IsZero() {
		since = since.Add(-skew)
	}
	ranges, _, err := a.r.options.Log.Ranges(ctx, since)
	if err != nil {
		return err
	}
	for _, r := range ranges {
		_, err := a.r.options.Log.Read(ctx, r, func(rec *bus.Record) error { return a.look(ctx, rec) })
		if errors.Is(err, errFound) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// look makes the wanted deliveries of a record.
func (a *Renewal) look(ctx context.Context, rec *bus.Record) error {
	var key eventKey
	var found []wanted
	message, bad, err := a.r.decode(ctx, rec, func(ev *event.Event) bool {
		key = eventKey{ev.Type, ev.ID}
		found = a.wanted[key]
		return found != nil
	})
	switch {
	case err != nil:
		return fmt.Errorf("%s, partition %d, offset %d: %w", rec.Topic, rec.Partition, rec.Position, err)
	case found == nil: // which a record without a readable id is, too: it was never delivered
		return nil
	}
	for _, w := range found {
		if bad != nil {
			a.fail(w, fmt.Sprintf("its event cannot be read any more (%s)", bad.Reason))
			continue
		}
		planned := plan.Deliveries(message, []*rule.Rule{w.rule})
		if len(planned) == 0 {
			a.fail(w, "its rule's filter leaves the event out now")
			continue
		}
		planned[0].ID = delivery.Renew(w.id, a.r.options.Run)
		if err := a.rows.add(ctx, &planned[0]); err != nil {
			return err
		}
	}
	if delete(a.wanted, key); len(a.wanted) == 0 {
		return errFound
	}
	return nil
}

func (a *Renewal) fail(w wanted, why string) { a.failed = append(a.failed, Failure{w.id, why}) }
