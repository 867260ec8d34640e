package rule

import (
	"context"
	"log/slog"
)

// maxFaultsLogged bounds the lines about faulty rows of one table in one change.
const maxFaultsLogged = 20

// faults are what is wrong with rows.
type faults map[Key]string

// logChange says what the rules are now, and each new fault. The caller has the turn.
func (r *Refresher) logChange(ctx context.Context, before, now *Snapshot) {
	counts := make([]slog.Attr, 0, len(statuses)+2)
	filters := make([]any, 0, len(statuses))
	for _, status := range statuses {
		counts = append(counts, slog.Int(status.String(), now.Count(Webhooks, status)))
		if status != Released {
			filters = append(filters, slog.Int(status.String(), now.Count(Webfilters, status)))
		}
	}
	counts = append(counts, slog.Int("event_types", now.EventTypes()), slog.Group("webfilters", filters...))
	if before == nil {
		r.log.LogAttrs(ctx, slog.LevelInfo, "rules loaded", counts...)
	} else {
		r.log.LogAttrs(ctx, slog.LevelInfo, "rules changed", counts...)
	}
	found := make(faults, now.Count(Webhooks, Faulty))
	for _, n := range [...]notes{
		{r: r, table: Webhooks, noun: "rule", found: found},
		{r: r, table: Webfilters, noun: "webfilter", found: found},
	} {
		list := now.Entries(n.table)
		for i := range list {
			n.add(ctx, &list[i])
		}
		n.end(ctx)
	}
	r.faults = found
}

// notes writes the lines about the rows of one table.
type notes struct {
	r     *Refresher
	table Table
	noun  string // what the rows are called
	found faults
	fresh int // faults that have not been logged before
}

// add notes a row, and logs what is new.
func (n *notes) add(ctx context.Context, e *Entry) {
	log, id := n.r.log, slog.Int(n.table.LogKey(), int(e.Key.ID))
	trouble := e.Trouble()
	if trouble == "" {
		if log.Enabled(ctx, slog.LevelDebug) {
			log.LogAttrs(ctx, slog.LevelDebug, n.noun, id, slog.String("status", e.Status().String()), //nolint:sloglint // one of two constants
				slog.String("event_type", e.Rule.EventType), slog.String("target", e.Rule.Target))
		}
		return
	}
	n.found[e.Key] = trouble
	if n.r.faults[e.Key] == trouble {
		return
	}
	message := n.noun + " is left out"
	if e.Rule != nil {
		message = n.noun + " is held back"
	}
	if n.fresh++; n.fresh <= maxFaultsLogged {
		log.LogAttrs(ctx, slog.LevelWarn, message, id, slog.String("fault", trouble)) //nolint:sloglint // one of four constants
	}
}

// end says how many rows were not logged one by one.
func (n *notes) end(ctx context.Context) {
	if more := n.fresh - maxFaultsLogged; more > 0 {
		message := "more " + n.noun + "s are left out or held back; see rules list" + n.table.Flag()
		n.r.log.LogAttrs(ctx, slog.LevelWarn, message, slog.Int(n.noun+"s", more)) //nolint:sloglint // one of two constants
	}
}
