package admin

import (
	"context"
	"errors"
	"fmt"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/replay"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// snapshot reads and compiles all rules.
func (a *Admin) snapshot(ctx context.Context) (*rule.Snapshot, error) {
	tables, err := a.o.Store.Rules(ctx)
	if err != nil {
		return nil, err
	}
	return rule.NewSnapshot(tables, a.o.Compiler), nil
}

// webhook returns the entry and the rule of a webhook rule whose rows are sent, or will be once it
// is resumed. Else it returns a *NotFoundError or a *RuleStateError.
func webhook(rules *rule.Snapshot, id int32) (*rule.Entry, *rule.Rule, error) {
	if e := rules.Entry(rule.Key{Table: rule.Webhooks, ID: id}); e != nil {
		switch status := e.Status(); status {
		case rule.Faulty, rule.Disabled, rule.Foreign:
			return nil, nil, &RuleStateError{ID: id, Status: status, Fault: e.Fault}
		case rule.Absent, rule.Active, rule.Released, rule.Paused:
		}
		return e, e.Rule, nil
	}
	return nil, nil, &NotFoundError{Reason: fmt.Sprintf("there is no webhook rule %d", id), See: SeeRules}
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
	if len(r.IDs) > 0 {
		err = a.renewIDs(ctx, w, r.IDs)
	} else {
		err = a.renewSelected(ctx, w, r)
	}
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

func (a *Admin) renewIDs(ctx context.Context, w *renewal, refs []DeliveryRef) error {
	for _, ref := range refs {
		row, found, err := a.find(ctx, ref)
		if err != nil {
			return err
		}
		if !found {
			w.view.refuse(ref.String(), errNoRow)
			continue
		}
		if err := w.take(ctx, ref.String(), &row); err != nil {
			return err
		}
	}
	return nil
}

// page is how many rows of a selection are read at once.
const page = 500

func (a *Admin) renewSelected(ctx context.Context, w *renewal, r *Replay) error {
	selected, err := a.ended(ctx, &r.Selection)
	if err != nil {
		return err
	}
	w.view.Note = selected.note
	var at store.EndedRow
	for {
		var rows []store.Summary
		if rows, at, err = w.store.EndedPage(ctx, r.States[0], selected.Selection, at, page); err != nil {
			return err
		}
		for i := range rows {
			if err := w.take(ctx, rows[i].ID.String(), &rows[i]); err != nil {
				return err
			}
		}
		if len(rows) < page {
			return nil
		}
	}
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
	_, to, err := webhook(w.rules, row.RuleID)
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
	w.rows.Search(row, to)
	return nil
}
