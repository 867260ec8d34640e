package admin

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// DeliveryView is a delivery in a list.
type DeliveryView struct {
	ID         uint64     `json:"id"` // the row's number
	WebhookID  string     `json:"webhook_id"`
	RuleID     int32      `json:"rule_id"`
	Kind       string     `json:"kind"`
	State      string     `json:"state"`
	Reason     string     `json:"reason"`
	Attempts   int        `json:"attempts"`
	LastStatus int        `json:"last_status"` // 0 where no answer came
	EventType  string     `json:"event_type"`
	EventID    string     `json:"event_id"`
	EventTime  *time.Time `json:"event_time"` // null where it is not known
	DueAt      *time.Time `json:"due_at"`     // null for a delivery that has ended
	BodySize   int64      `json:"body_size"`  // bytes; 0 where the body was not kept
	CreatedAt  time.Time  `json:"created_at"`
	UpdatedAt  time.Time  `json:"updated_at"`
}

// DeliveryDetail is a delivery with its attempts.
type DeliveryDetail struct {
	DeliveryView

	Claims     int           `json:"claims"`
	Format     string        `json:"format"`
	Body       *string       `json:"body,omitempty"` // if asked for; what is not UTF-8 becomes U+FFFD
	AttemptLog []AttemptView `json:"attempt_log"`
}

// LoggedDelivery is a delivery without a row, as far as the attempt log knows it.
type LoggedDelivery struct {
	ID         *uint64       `json:"id"` // null: there is no row
	WebhookID  string        `json:"webhook_id"`
	RuleID     int32         `json:"rule_id"`
	Kind       string        `json:"kind"`
	State      *string       `json:"state"` // null: only rows have one
	EventType  string        `json:"event_type"`
	AttemptLog []AttemptView `json:"attempt_log"`
}

// AttemptView is one attempt of a delivery.
type AttemptView struct {
	Number     int       `json:"number"` // counts from 1 again after a replay
	At         time.Time `json:"at"`
	Status     int       `json:"status"` // 0 where no answer came
	Error      string    `json:"error"`  // why no answer came, or only a part of it; else empty
	DurationMS int64     `json:"duration_ms"`
	Response   *string   `json:"response,omitempty"` // if asked for; the beginning of the answer's body
}

// DeliveryList is a part of the list of deliveries.
type DeliveryList struct {
	Deliveries []DeliveryView
	More       bool   // the list goes on after the limit
	Note       string // what to know about the selected event, or empty
}

// Deliveries lists up to limit deliveries, the last changed first. The limit is from 1 to 10,000.
func (a *Admin) Deliveries(ctx context.Context, s Selection, limit int) (*DeliveryList, error) {
	if err := checkLimit(limit); err != nil {
		return nil, err
	}
	r, err := a.resolve(ctx, &s)
	if err != nil {
		return nil, err
	}
	found, more, err := a.o.Store.List(ctx, r.Selection, limit)
	if err != nil {
		return nil, err
	}
	return &DeliveryList{Deliveries: views(found, viewDelivery), More: more, Note: r.note}, nil
}

// views returns what is shown of each of a list. JSON has [] for none.
func views[T, V any](list []T, view func(*T) V) []V {
	shown := make([]V, len(list))
	for i := range list {
		shown[i] = view(&list[i])
	}
	return shown
}

func viewDelivery(row *store.Summary) DeliveryView {
	return DeliveryView{
		ID: row.RowID, WebhookID: row.ID.String(), RuleID: row.RuleID, Kind: row.Kind.String(), State: row.State.String(),
		Reason: string(row.Reason), Attempts: row.Attempts, LastStatus: row.LastStatus, EventType: row.EventType,
		EventID: row.EventID, EventTime: orNull(row.EventTime), DueAt: orNull(row.DueAt), BodySize: row.BodySize,
		CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt,
	}
}

// Delivery returns one delivery with its attempts: detail where it has a row, else logged, with
// what the attempt log knows. Bodies and responses hold learners' data and are only in it with
// bodies. A delivery with neither row nor attempts is a *NotFoundError.
func (a *Admin) Delivery(ctx context.Context, ref DeliveryRef, bodies bool) (detail *DeliveryDetail, logged *LoggedDelivery, err error) {
	row, found, err := a.find(ctx, ref)
	if err != nil {
		return nil, nil, err
	}
	id := ref.ID
	if found {
		id = row.ID
	}
	var attempts []delivery.Attempt
	if found || ref.Row == 0 { // the log knows deliveries by their webhook-id alone
		if attempts, err = a.o.Store.Attempts(ctx, id); err != nil {
			return nil, nil, err
		}
	}
	shown := viewAttempts(attempts, bodies)
	switch {
	case found:
		detail = &DeliveryDetail{DeliveryView: viewDelivery(&row), Claims: row.Claims, Format: row.Format.String(), AttemptLog: shown}
		if bodies {
			whole, _, err := a.o.Store.Get(ctx, id) // if it is gone by now, there is no body to show
			if err != nil {
				return nil, nil, err
			}
			detail.Body = validText(whole.Body)
		}
		return detail, nil, nil
	case len(attempts) > 0:
		first := &attempts[0]
		return nil, &LoggedDelivery{
			WebhookID: id.String(), RuleID: first.RuleID, Kind: first.Kind.String(), EventType: first.EventType, AttemptLog: shown,
		}, nil
	}
	return nil, nil, &NotFoundError{Reason: fmt.Sprintf("there is no row of delivery %s, and no attempt is logged: "+
		"rows are only of deliveries that did not end at their first try, and are removed some time after their end; "+
		"attempts without a row are logged with WEBHOOK_DISPATCHER_ATTEMPT_LOG=all, and where they failed or a webfilter "+
		"stopped the event", ref)}
}

func viewAttempts(attempts []delivery.Attempt, responses bool) []AttemptView {
	return views(attempts, func(a *delivery.Attempt) AttemptView {
		v := AttemptView{Number: a.Number, At: a.At, Status: a.Status, Error: string(a.Class), DurationMS: a.Duration.Milliseconds()}
		if responses {
			v.Response = validText(a.Response)
		}
		return v
	})
}

func validText(raw []byte) *string {
	text := strings.ToValidUTF8(string(raw), "\uFFFD")
	return &text
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// Selection selects deliveries of a list. The zero Selection selects all.
type Selection struct {
	States []delivery.State // none selects all states
	Rule   *int32           // the id of a webhook rule; nil selects all rules
	Event  string           // a signal's constant or an event type; empty selects all events
	// Since is the first moment to select, Until the first not to, by when a delivery last changed.
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
		err = &Problem{Field: "since", Reason: fmt.Sprintf("%s is not before `until`, which is %s", stamp(r.Since), stamp(r.Until))}
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
	if 1 <= limit && limit <= maxLimit {
		return nil
	}
	fix := fmt.Sprintf("write a number from 1 to %d", maxLimit)
	return &Problem{Field: "limit", Reason: fmt.Sprintf("%d is out of range", limit), Fix: fix}
}
