package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/replay"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// usable returns the rule of an entry if rows of it are sent, or will be once it is resumed; else an error that says what to do.
func usable(e *rule.Entry) (*rule.Rule, error) {
	switch e.Status() {
	case rule.Faulty:
		return nil, fmt.Errorf("rule %d cannot be used: %s; correct it, then repeat the command", e.Row.ID, e.Fault)
	case rule.Disabled:
		return nil, fmt.Errorf("rule %d is disabled, so nothing is sent for it: rules set %[1]d --enable, then repeat the command", e.Row.ID)
	case rule.Foreign:
		return nil, fmt.Errorf("rule %d is not adopted, so nothing is sent for it: rules adopt %[1]d, then repeat the command", e.Row.ID)
	case rule.Absent, rule.Active, rule.Released, rule.Paused:
	}
	return e.Rule, nil
}

// renewal gathers what is sent again under new ids.
type renewal struct {
	st    *store.Store
	rules *ruleSet
	anew  *replay.Anew
	view  *replayView
	seen  map[uint64]bool
}

// maxRefused bounds those of a choice by --state that are named.
const maxRefused = 10

// anew makes rows under new ids of the deliveries that are named or chosen.
func (c *deliveriesReplayCommand) anew(ctx context.Context, s *session, st *store.Store) error {
	rules, err := readRules(ctx, st, &c.ruleSettings)
	if err != nil {
		return err
	}
	return withReplayer(&c.Bus, st, c.Yes, func(r *replay.Replayer) error {
		w := &renewal{
			st: st, rules: rules, anew: r.Anew(), seen: map[uint64]bool{}, view: &replayView{Applied: c.Yes, Refused: []refusedView{}},
		}
		gather := func() error { return c.gatherIDs(ctx, w) }
		if len(c.IDs) == 0 {
			gather = func() error { return c.gatherState(ctx, s, w) }
		}
		gathered := gather()
		if n := w.anew.Searched(); gathered == nil && n > 0 {
			fmt.Fprintf(s.Stderr, "webhook-dispatcher: searching the topics for %s\n", counted(n, "event", "events"))
		}
		var counts replay.Counts
		var failures []replay.Failure
		err := gathered
		if err == nil {
			counts, failures, err = w.anew.Finish(ctx)
		}
		for _, f := range failures {
			w.view.refuse(f.ID.String(), f.Why)
		}
		for _, id := range counts.UnfitIDs {
			w.view.refuse(id.String(), "it does not fit a row")
		}
		w.view.RefusedCount += counts.Unfit - len(counts.UnfitIDs)
		w.view.Replayable = counts.Total() - counts.Unfit
		if c.Yes {
			w.view.Replayed = counts.Inserted
		}
		if len(c.IDs) == 0 && len(w.view.Refused) > maxRefused {
			w.view.Refused = w.view.Refused[:maxRefused]
		}
		if printErr := c.printAnew(s, w.view); printErr != nil || err != nil {
			return errors.Join(err, printErr)
		}
		return w.view.failure()
	})
}

func (c *deliveriesReplayCommand) printAnew(s *session, view *replayView) error {
	if c.JSON {
		return s.printJSON(view)
	}
	one, many := "delivery under a new id can be made", "deliveries under new ids can be made"
	if c.Yes {
		one, many = "delivery under a new id is pending", "deliveries under new ids are pending"
	}
	fmt.Fprintln(s.Stdout, counted(view.Replayable, one, many))
	s.printRefused(view)
	if more := view.RefusedCount - len(view.Refused); more > 0 {
		fmt.Fprintf(s.Stdout, "%d more cannot be replayed\n", more)
	}
	if !c.Yes && view.Replayable > 0 {
		fmt.Fprintln(s.Stdout, notDone)
	}
	return nil
}

func (c *deliveriesReplayCommand) gatherIDs(ctx context.Context, w *renewal) error {
	for _, arg := range c.IDs {
		row, found, err := arg.find(ctx, w.st)
		if err != nil {
			return err
		}
		if !found {
			w.view.refuse(arg.String(), "there is no such row")
			continue
		}
		if err := w.take(ctx, arg.String(), &row); err != nil {
			return err
		}
	}
	return nil
}

// page is how many rows of a choice are read at once.
const page = 500

func (c *deliveriesReplayCommand) gatherState(ctx context.Context, s *session, w *renewal) error {
	f, err := c.ended(ctx, s, w.st)
	if err != nil {
		return err
	}
	var at store.EndedRow
	for {
		var rows []store.Summary
		if rows, at, err = w.st.EndedPage(ctx, c.State.states[0], f, at, page); err != nil {
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

// take has a row copied or its event searched for, or refuses it.
func (w *renewal) take(ctx context.Context, name string, row *store.Summary) error {
	if w.seen[row.RowID] {
		return nil
	}
	w.seen[row.RowID] = true
	if row.Kind != delivery.KindWebhook || row.State == delivery.Halted {
		w.view.refuse(name, fmt.Sprintf("it is of kind %s, %s", row.Kind, row.State))
		return nil
	}
	e, err := w.rules.entry(rule.Key{Table: rule.Webhooks, ID: row.RuleID})
	var to *rule.Rule
	if err == nil {
		to, err = usable(e)
	}
	if err != nil {
		w.view.refuse(name, err.Error())
		return nil
	}
	if row.BodySize > 0 {
		whole, found, err := w.st.Get(ctx, row.ID)
		if err != nil {
			return err
		}
		// Delivered meanwhile, or gone: the topics may have it.
		if found && len(whole.Body) > 0 {
			return w.anew.Copy(ctx, &whole)
		}
	}
	w.anew.Search(row, to)
	return nil
}
