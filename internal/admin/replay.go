package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/replay"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// Replay asks for deliveries to be sent again: either those of IDs, or all that Selection selects,
// of which States must be dead.
type Replay struct {
	IDs []DeliveryRef
	Selection

	// NewID sends them under new webhook-ids, which receivers take even where they have taken the
	// old ones; so delivered ones can be selected as well. Where a row has no body any more, its
	// event is read from the topics.
	NewID bool
	// Apply does it. Without, the deliveries are counted and nothing is changed.
	Apply bool

	// Counted, where set, is called with the counts before rows are changed. It is not called with
	// NewID, where counting takes as long as doing it.
	Counted func(*ReplayView)
	// Searching, where set, is called with the number of events that are about to be searched for
	// in the topics, which takes long.
	Searching func(events int)
}

// ReplayView is the result of a replay.
type ReplayView struct {
	Applied      bool      `json:"applied"`       // false: the deliveries were only counted
	Replayable   int       `json:"replayable"`    // deliveries that can be replayed
	Replayed     int       `json:"replayed"`      // deliveries that are pending now
	RefusedCount int       `json:"refused_count"` // deliveries that cannot be replayed
	Refused      []Refused `json:"refused"`       // these, or some of them

	Note string `json:"-"` // what to know about the selected event, or empty
}

// Refused is a delivery that cannot be replayed.
type Refused struct {
	Delivery string `json:"delivery"` // as it was asked for, else its webhook-id
	Reason   string `json:"reason"`   // the text of Cause; it may name options as a Problem does
	Cause    error  `json:"-"`        // may be a *RuleStateError or a *NotFoundError
}

func (v *ReplayView) refuse(delivery string, cause error) {
	v.RefusedCount++
	v.Refused = append(v.Refused, Refused{Delivery: delivery, Reason: cause.Error(), Cause: cause})
}

// Check returns what is wrong with the request, without asking the database. Replay does so, too.
func (r *Replay) Check() error {
	bySelection := len(r.States) > 0
	switch {
	case len(r.IDs) > 0 && (bySelection || r.Rule != nil || r.Event != "" || r.Since != (Moment{}) || r.Until != (Moment{})):
		return &Problem{Reason: "write either ids or `state` dead with `rule`, `event`, `since` and `until`, not both"}
	case len(r.IDs) > 0:
		return nil
	case len(r.States) != 1:
		return &Problem{Reason: "write the ids of the deliveries to replay, or `state` dead for all that are dead"}
	case r.States[0] == delivery.Delivered && !r.NewID:
		const reason = "a receiver drops a webhook-id that it has taken"
		return &Problem{Field: "state", Reason: reason, Fix: "add `new-id` to send them under new ones"}
	case r.States[0] != delivery.Dead && r.States[0] != delivery.Delivered:
		return &Problem{Field: "state", Reason: "only dead deliveries can be replayed, and delivered ones with `new-id`"}
	}
	return nil
}

// Replay counts the deliveries, and with Apply makes them pending. Deliveries that cannot be
// replayed are in the view and do not keep the others from it. After an error the view, where there
// is one, holds what was done before.
func (a *Admin) Replay(ctx context.Context, r *Replay) (*ReplayView, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	view := &ReplayView{Applied: r.Apply, Refused: []Refused{}}
	if r.NewID {
		return a.renew(ctx, r, view)
	}
	count := a.countDead
	if len(r.IDs) > 0 {
		count = a.countIDs
	}
	apply, err := count(ctx, r, view)
	if err != nil {
		return nil, err
	}
	if r.Counted != nil {
		r.Counted(view)
	}
	if r.Apply && view.Replayable > 0 {
		view.Replayed, err = apply()
	}
	return view, err
}

// countIDs counts the named deliveries that can be replayed and returns what replays them.
func (a *Admin) countIDs(ctx context.Context, r *Replay, view *ReplayView) (apply func() (int, error), err error) {
	var rows []uint64
	err = a.eachNamed(ctx, r, view, func(name string, row *store.Summary) error {
		switch {
		case row.State == delivery.Delivered:
			view.refuse(name, errors.New("it is delivered; add `new-id` to send it again under a new webhook-id"))
		case row.State != delivery.Dead:
			view.refuse(name, fmt.Errorf("it is %s", row.State))
		case row.BodySize == 0:
			view.refuse(name, bodyGone(row.Reason))
		case !slices.Contains(rows, row.RowID):
			rows = append(rows, row.RowID)
		}
		return nil
	})
	view.Replayable = len(rows)
	return func() (int, error) { return a.o.Store.Replay(ctx, rows) }, err
}

// eachNamed calls do for the row of each delivery that is named, and refuses those without one.
func (a *Admin) eachNamed(ctx context.Context, r *Replay, view *ReplayView, do func(name string, row *store.Summary) error) error {
	for _, ref := range r.IDs {
		row, found, err := a.find(ctx, ref)
		switch {
		case err != nil:
			return err
		case !found:
			view.refuse(ref.String(), errors.New("there is no such row"))
		default:
			if err := do(ref.String(), &row); err != nil {
				return err
			}
		}
	}
	return nil
}

// page is how many rows of a selection are read at once.
const page = 500

// eachSelected calls do for each selected delivery.
func (a *Admin) eachSelected(ctx context.Context, r *Replay, view *ReplayView, do func(name string, row *store.Summary) error) error {
	selected, err := a.ended(ctx, &r.Selection)
	if err != nil {
		return err
	}
	view.Note = selected.note
	var at store.EndedRow
	for {
		var rows []store.Summary
		if rows, at, err = a.o.Store.EndedPage(ctx, r.States[0], selected.Selection, at, page); err != nil {
			return err
		}
		for i := range rows {
			if err := do(rows[i].ID.String(), &rows[i]); err != nil {
				return err
			}
		}
		if len(rows) < page {
			return nil
		}
	}
}

// countDead counts the selected deliveries that can be replayed and returns what replays them.
func (a *Admin) countDead(ctx context.Context, r *Replay, view *ReplayView) (apply func() (int, error), err error) {
	selected, err := a.ended(ctx, &r.Selection)
	if err != nil {
		return nil, err
	}
	view.Note = selected.note
	dead, err := a.o.Store.CountDead(ctx, selected.Selection)
	if err != nil {
		return nil, err
	}
	for _, id := range dead.Examples {
		row, found, err := a.o.Store.Summary(ctx, id)
		if err != nil {
			return nil, err
		}
		if found {
			view.refuse(id.String(), bodyGone(row.Reason))
		}
	}
	view.Replayable, view.RefusedCount = dead.Replayable, dead.Bodyless
	return func() (int, error) { return a.o.Store.ReplayDead(ctx, selected.Selection) }, nil
}

// ended resolves a selection of deliveries that have ended. One that ends from now on, such as one
// that is replayed and fails again, is left out.
func (a *Admin) ended(ctx context.Context, s *Selection) (resolved, error) {
	r, err := a.resolve(ctx, s)
	if r.Until.IsZero() || r.Until.After(r.now) {
		r.Until = r.now
	}
	return r, err
}

func bodyGone(reason delivery.Reason) error { return fmt.Errorf("its body was not kept (%s)", reason) }

// replayer reads the rules, and returns a replayer of its own run with them.
func (a *Admin) replayer(ctx context.Context, apply bool) (*replay.Replayer, *rule.Snapshot, error) {
	rules, err := a.snapshot(ctx)
	if err != nil {
		return nil, nil, err
	}
	replayer, err := a.newReplayer(apply)
	return replayer, rules, err
}

// newReplayer returns a replayer of its own run.
func (a *Admin) newReplayer(apply bool) (*replay.Replayer, error) {
	decoder, err := a.o.Decoder()
	if err != nil {
		return nil, err
	}
	o := replay.Options{Log: a.o.Log, Decoder: decoder, Rows: a.o.Store, Records: a.o.Store, AllTopics: a.o.AllTopics, Apply: apply}
	_, _ = rand.Read(o.Run[:]) // it never fails
	return replay.New(o)
}

// snapshot reads and compiles all rules.
func (a *Admin) snapshot(ctx context.Context) (*rule.Snapshot, error) {
	tables, err := a.o.Store.Rules(ctx)
	if err != nil {
		return nil, err
	}
	return rule.NewSnapshot(tables, a.o.Compiler), nil
}

// webhook returns a webhook rule whose rows are sent, or will be once it is resumed. Else it returns
// a *NotFoundError or a *RuleStateError.
func webhook(rules *rule.Snapshot, id int32) (*rule.Entry, error) {
	e := rules.Entry(rule.Key{Table: rule.Webhooks, ID: id})
	if e == nil {
		return nil, &NotFoundError{Reason: fmt.Sprintf("there is no webhook rule %d", id), See: SeeRules}
	}
	switch status := e.Status(); status {
	case rule.Faulty, rule.Disabled, rule.Foreign:
		return nil, &RuleStateError{ID: id, Status: status, Fault: e.Fault}
	default:
		return e, nil
	}
}

// renewal collects what is sent again under new ids.
type renewal struct {
	store Store
	rules *rule.Snapshot
	rows  *replay.Renewal
	view  *ReplayView
	seen  map[uint64]bool
}

// maxRefused bounds the refused deliveries of a selection that are named.
const maxRefused = 10

// renew makes rows under new ids of the deliveries that are named or selected.
func (a *Admin) renew(ctx context.Context, r *Replay, view *ReplayView) (*ReplayView, error) {
	replayer, rules, err := a.replayer(ctx, r.Apply)
	if err != nil {
		return nil, err
	}
	w := &renewal{store: a.o.Store, rules: rules, rows: replayer.Renewal(), view: view, seen: map[uint64]bool{}}
	each := a.eachSelected
	if len(r.IDs) > 0 {
		each = a.eachNamed
	}
	err = each(ctx, r, view, func(name string, row *store.Summary) error { return w.take(ctx, name, row) })
	if _, wrong := errors.AsType[*Problem](err); wrong {
		return nil, err
	}
	var counts replay.Counts
	var failures []replay.Failure
	if err == nil {
		if n := w.rows.Searched(); n > 0 && r.Searching != nil {
			r.Searching(n)
		}
		counts, failures, err = w.rows.Finish(ctx)
	}
	for _, f := range failures {
		view.refuse(f.ID.String(), errors.New(f.Why))
	}
	for _, id := range counts.UnfitIDs {
		view.refuse(id.String(), errors.New("it does not fit a row"))
	}
	view.RefusedCount += counts.Unfit - len(counts.UnfitIDs)
	view.Replayable = counts.Total() - counts.Unfit
	if r.Apply {
		view.Replayed = counts.Inserted
	}
	if len(r.IDs) == 0 && len(view.Refused) > maxRefused {
		view.Refused = view.Refused[:maxRefused]
	}
	return view, err
}

// take copies a row or has its event searched for, or refuses it.
func (w *renewal) take(ctx context.Context, name string, row *store.Summary) error {
	if w.seen[row.RowID] {
		return nil
	}
	w.seen[row.RowID] = true
	if row.Kind != delivery.KindWebhook || row.State == delivery.Halted {
		w.view.refuse(name, fmt.Errorf("it is of kind %s, %s", row.Kind, row.State))
		return nil
	}
	e, err := webhook(w.rules, row.RuleID)
	if err != nil {
		w.view.refuse(name, err)
		return nil
	}
	if row.BodySize > 0 {
		whole, found, err := w.store.Get(ctx, row.ID)
		if err != nil {
			return err
		}
		// A row that was delivered or removed by now has no body; its event may be in the topics.
		if found && len(whole.Body) > 0 {
			return w.rows.Copy(ctx, &whole)
		}
	}
	w.rows.Search(row, e.Rule)
	return nil
}
