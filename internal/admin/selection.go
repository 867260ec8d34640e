package admin

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// Selection selects deliveries of a list. The zero Selection selects all.
type Selection struct {
	States []delivery.State // none selects all states
	Rule   *int32           // the id of a webhook rule; nil selects all rules
	Event  string           // a signal's constant or an event type; empty selects all events
	// Since is the first moment to select and Until the first that no longer counts, by the time at
	// which a delivery last changed.
	Since, Until Moment
}

// Moment is a time, or a duration before the present of the database. The zero Moment is no bound.
type Moment struct {
	At  time.Time
	Ago time.Duration // above 0 where it is used
}

// From returns the moment as seen at a present, zero for no bound.
func (m Moment) From(now time.Time) time.Time {
	if m.Ago > 0 {
		return now.Add(-m.Ago)
	}
	return m.At
}

// resolved is a selection as the store takes it.
type resolved struct {
	store.Selection

	now  time.Time // the present that durations were counted from
	note string    // what to know about the event, or empty
}

// resolve looks up the event and the database's time.
func (a *Admin) resolve(ctx context.Context, s *Selection) (r resolved, err error) {
	if r.now, err = a.o.Store.Now(ctx); err != nil {
		return r, err
	}
	r.States, r.Since, r.Until = s.States, s.Since.From(r.now), s.Until.From(r.now)
	if !r.Since.IsZero() && !r.Until.IsZero() && !r.Since.Before(r.Until) {
		err = &Problem{
			Field: "since", Reason: fmt.Sprintf("%s is not before `until`, which is %s", stamp(r.Since), stamp(r.Until)),
		}
	}
	if s.Rule != nil {
		r.Lane = &delivery.Lane{Kind: delivery.KindWebhook, RuleID: *s.Rule}
	}
	var unknown error
	r.EventType, r.note, unknown = a.EventType(s.Event)
	return r, errors.Join(err, unknown)
}

// stamp writes a time with the milliseconds that the tables have.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }

// DeliveryRef names a delivery by its webhook-id or by the number of its row.
type DeliveryRef struct {
	ID  delivery.ID
	Row uint64 // 0: by ID
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *DeliveryRef) UnmarshalText(text []byte) error {
	id, err := delivery.ParseID(string(text))
	if err == nil {
		*r = DeliveryRef{ID: id}
		return nil
	}
	row, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil || row == 0 {
		return fmt.Errorf("%q is not a delivery: write its webhook-id, msg_ and 32 hexadecimal digits, or its id in the list", text)
	}
	*r = DeliveryRef{Row: row}
	return nil
}

// String returns the reference as UnmarshalText takes it.
func (r DeliveryRef) String() string {
	if r.Row > 0 {
		return strconv.FormatUint(r.Row, 10)
	}
	return r.ID.String()
}

func (a *Admin) find(ctx context.Context, r DeliveryRef) (store.Summary, bool, error) {
	if r.Row > 0 {
		return a.o.Store.SummaryOfRow(ctx, r.Row)
	}
	return a.o.Store.Summary(ctx, r.ID)
}

// maxLimit is how many entries of a list are returned at most.
const maxLimit = 10_000

func checkLimit(limit int) error {
	if limit < 1 || limit > maxLimit {
		return &Problem{
			Field: "limit", Reason: fmt.Sprintf("%d is out of range", limit), Fix: fmt.Sprintf("write a number from 1 to %d", maxLimit),
		}
	}
	return nil
}
