package replay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/plan"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// Anew sends deliveries again under new IDs. Those whose body is still in a row are copied; the events of the others are searched for in
// the topics. It is filled by Copy and Search and ended by Finish.
type Anew struct {
	r      *Replayer
	rows   *batch
	wanted map[eventKey][]wanted
	search int
	since  time.Time // of the earliest event; zero where one has none
	failed []Failure
}

// eventKey is what a row knows of its event. Ids of events are UUIDs.
type eventKey struct{ eventType, id string }

// wanted is a delivery whose event is searched for.
type wanted struct {
	id   delivery.ID // of its row
	rule *rule.Rule
}

// Failure is a delivery that could not be sent again, with why.
type Failure struct {
	ID  delivery.ID
	Why string
}

// Anew returns an Anew without deliveries.
func (r *Replayer) Anew() *Anew {
	return &Anew{r: r, rows: r.newBatch(true), wanted: map[eventKey][]wanted{}}
}

// Searched returns how many deliveries have been given to Search.
func (a *Anew) Searched() int { return a.search }

// Copy takes a row that has its body.
func (a *Anew) Copy(ctx context.Context, row *delivery.Row) error {
	d := row.Delivery
	d.ID = delivery.Renew(row.ID, a.r.options.Run)
	return a.rows.add(ctx, &d)
}

// Search takes a row that has no body (any more), with its rule as it is now.
func (a *Anew) Search(row *store.Summary, to *rule.Rule) {
	if a.search == 0 || row.EventTime.Before(a.since) {
		a.since = row.EventTime
	}
	a.search++
	key := eventKey{row.EventType, row.EventID}
	a.wanted[key] = append(a.wanted[key], wanted{row.ID, to.Always()})
}

// skew is how much older than its event a record may be: their times are of two clocks, and brokers may write their own.
const skew = time.Hour

// errFound ends a Read when there is nothing left to find.
var errFound = errors.New("all events are found")

// Finish searches, from an hour before the earliest event to the ends of the topics as they are now or until all are found, and writes
// what has not been written. It returns what came of all, also after an error; failures hold those that were not found.
func (a *Anew) Finish(ctx context.Context) (Counts, []Failure, error) {
	err := a.find(ctx)
	if err == nil {
		err = a.rows.flush(ctx)
	}
	if err != nil {
		return a.rows.counts, a.failed, err
	}
	for _, missing := range a.wanted {
		for _, w := range missing {
			a.failed = append(a.failed, Failure{w.id, "its event is not in the topics (any more)"})
		}
	}
	return a.rows.counts, a.failed, nil
}

func (a *Anew) find(ctx context.Context) error {
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

// look makes the deliveries that are wanted of a record.
func (a *Anew) look(ctx context.Context, rec *bus.Record) error {
	ev, err := a.r.decoder.Envelope(rec)
	if err != nil {
		return nil //nolint:nilerr // a record without a readable id is none that was delivered
	}
	key := eventKey{ev.Type, ev.ID}
	found := a.wanted[key]
	if found == nil {
		return nil
	}
	message, err := a.r.decoder.Message(ctx, rec, ev)
	bad, undecodable := decode.AsUndecodable(err)
	switch {
	case undecodable:
		for _, w := range found {
			a.failed = append(a.failed, Failure{w.id, fmt.Sprintf("its event cannot be read any more (%s)", bad.Reason)})
		}
	case err != nil:
		return fmt.Errorf("%s, partition %d, offset %d: %w", rec.Topic, rec.Partition, rec.Position, err)
	default:
		for _, w := range found {
			planned := plan.Deliveries(message, []*rule.Rule{w.rule})
			if len(planned) == 0 {
				a.failed = append(a.failed, Failure{w.id, "its rule's filter leaves the event out now"})
				continue
			}
			planned[0].ID = delivery.Renew(w.id, a.r.options.Run)
			if err := a.rows.add(ctx, &planned[0]); err != nil {
				return err
			}
		}
	}
	if delete(a.wanted, key); len(a.wanted) == 0 {
		return errFound
	}
	return nil
}
