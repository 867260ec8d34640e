package rule

import (
	"cmp"
	"context"
	"log/slog"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// maxFaultsLogged bounds the lines about faulty rows of one table in one change.
const maxFaultsLogged = 20

// faults are what is wrong with rows, by lane: ids of the two tables have nothing to do with each other.
type faults map[delivery.Lane]string

// finding is a row as the log has it.
type finding struct {
	lane    delivery.Lane
	trouble string // why the row is not used as it stands, "" where nothing is wrong
	status  Status
	rule    *Rule // nil for a faulty row
}

// finding returns the row as the log has it.
func (e *Entry) finding() finding {
	return finding{
		lane: delivery.Lane{Kind: e.Kind, RuleID: e.Row.ID}, trouble: cmp.Or(e.Fault, e.Hold), status: e.Status(), rule: e.Rule,
	}
}

// finding returns the row as the log has it. That a row could not be called is no trouble where nobody would: the plugin's own row has the
// filter endpoint as its URL, as it must.
func (e *FilterEntry) finding() finding {
	f := finding{
		lane: delivery.Lane{Kind: delivery.KindEvent, RuleID: e.Row.ID}, trouble: e.Fault, status: e.Status(),
	}
	if e.Filter == nil {
		return f
	}
	f.rule = e.Filter.Rule
	if e.called() {
		f.trouble = cmp.Or(e.Fault, e.Filter.Hold)
	}
	return f
}

// logChange says what the rules are now, and each new fault. The caller has the turn.
func (r *Refresher) logChange(ctx context.Context, before, now *Snapshot) {
	counts := make([]slog.Attr, 0, len(statuses)+2)
	filters := make([]any, 0, len(statuses))
	for _, status := range statuses {
		counts = append(counts, slog.Int(status.String(), now.Count(status)))
		if status != Released {
			filters = append(filters, slog.Int(status.String(), now.CountFilters(status)))
		}
	}
	counts = append(counts, slog.Int("event_types", now.EventTypes()), slog.Group("webfilters", filters...))
	if before == nil {
		r.log.LogAttrs(ctx, slog.LevelInfo, "rules loaded", counts...)
	} else {
		r.log.LogAttrs(ctx, slog.LevelInfo, "rules changed", counts...)
	}
	found := make(faults, now.Count(Faulty))
	rules := notes{r: r, noun: "rule", id: "rule_id", list: "rules list", found: found}
	webfilters := notes{r: r, noun: "webfilter", id: "webfilter", list: "rules list --kind webfilter", found: found}
	for i := range now.entries {
		rules.add(ctx, now.entries[i].finding())
	}
	for i := range now.filters.entries {
		webfilters.add(ctx, now.filters.entries[i].finding())
	}
	rules.end(ctx)
	webfilters.end(ctx)
	r.faults = found
}

// notes writes the lines about the rows of one table.
type notes struct {
	r     *Refresher
	noun  string // what the rows are called
	id    string // the attribute that has a row's id
	list  string // the command that has all of them
	found faults
	fresh int // faults that have not been logged before
}

// add notes a row, and logs what is new.
func (n *notes) add(ctx context.Context, f finding) {
	log, id := n.r.log, slog.Int(n.id, int(f.lane.RuleID))
	if f.trouble == "" {
		if log.Enabled(ctx, slog.LevelDebug) {
			log.LogAttrs(ctx, slog.LevelDebug, n.noun, id, slog.String("status", f.status.String()), //nolint:sloglint // one of two constants
				slog.String("event_type", f.rule.EventType), slog.String("target", f.rule.Target))
		}
		return
	}
	n.found[f.lane] = f.trouble
	if n.r.faults[f.lane] == f.trouble {
		return
	}
	message := n.noun + " is left out"
	if f.rule != nil {
		message = n.noun + " is held back"
	}
	if n.fresh++; n.fresh <= maxFaultsLogged {
		log.LogAttrs(ctx, slog.LevelWarn, message, id, slog.String("fault", f.trouble)) //nolint:sloglint // one of four constants
	}
}

// end says how many rows were not logged one by one.
func (n *notes) end(ctx context.Context) {
	if more := n.fresh - maxFaultsLogged; more > 0 {
		message := "more " + n.noun + "s are left out or held back; see " + n.list
		n.r.log.LogAttrs(ctx, slog.LevelWarn, message, slog.Int(n.noun+"s", more)) //nolint:sloglint // one of two constants
	}
}
