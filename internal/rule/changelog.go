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
	message := "rules changed"
	if before == nil {
		message = "rules loaded"
	}
	r.log.LogAttrs(ctx, slog.LevelInfo, message, counts...) //nolint:sloglint // one of two constants
	found := make(faults, now.Count(Webhooks, Faulty))
	r.logRows(ctx, now.Entries(Webhooks), Webhooks, found)
	r.logRows(ctx, now.Entries(Webfilters), Webfilters, found)
	r.faults = found
}

// logRows logs the new faults of a table's rows, and adds all of them to found.
func (r *Refresher) logRows(ctx context.Context, list []Entry, table Table, found faults) {
	noun, fresh := table.either("rule", "webfilter"), 0
	for i := range list {
		e := &list[i]
		id, trouble := slog.Int(table.LogKey(), int(e.Key.ID)), e.Trouble()
		if trouble == "" {
			if r.log.Enabled(ctx, slog.LevelDebug) {
				r.log.LogAttrs(ctx, slog.LevelDebug, noun, id, slog.String("status", e.Status().String()), //nolint:sloglint // one of two constants
					slog.String("event_type", e.Rule.EventType), slog.String("target", e.Rule.Target))
			}
			continue
		}
		if found[e.Key] = trouble; r.faults[e.Key] == trouble {
			continue
		}
		message := noun + " is left out"
		if e.Rule != nil {
			message = noun + " is held back"
		}
		if fresh++; fresh <= maxFaultsLogged {
			r.log.LogAttrs(ctx, slog.LevelWarn, message, id, slog.String("fault", trouble)) //nolint:sloglint // one of four constants
		}
	}
	if more := fresh - maxFaultsLogged; more > 0 {
		message := "more " + noun + "s are left out or held back; see rules list" + table.Flag()
		r.log.LogAttrs(ctx, slog.LevelWarn, message, slog.Int(noun+"s", more)) //nolint:sloglint // one of two constants
	}
}
