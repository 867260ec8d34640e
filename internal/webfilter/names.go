package webfilter

import (
	"slices"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// Names returns the names of the plugin's filters, sorted.
func Names() []string {
	var names []string
	for _, f := range rule.PluginFilters() {
		names = append(names, f.Name)
	}
	slices.Sort(names)
	return names
}

// named returns the plugin's filter of exactly this name, else one that has none and cannot halt.
func named(name string) rule.PluginFilter {
	if f := rule.FindFilter(name); f != nil && f.Name == name {
		return *f
	}
	return rule.PluginFilter{}
}

// Halts reports whether a row of the plugin's filter of this name can halt.
func Halts(filter string) bool { return named(filter).Exception != "" }

// Label returns the label of a filter in metrics: its name, "other" if the plugin does not know it.
func Label(filter string) string {
	if named(filter).Name != "" {
		return filter
	}
	return "other"
}

// Answer returns what to answer the plugin, so that the one row by which it asks has the effect of
// all of them: an object with data and exception; what is empty is left out.
func (o *Outcome) Answer(filter string) payload.Value {
	var answer payload.Entries
	if o.Halt == nil && o.Data.Len() > 0 {
		answer.Set("data", o.Data)
	}
	if o.Halt != nil {
		answer.Set("exception", o.Halt.exception(named(filter)))
	} else if o.Exceptions.Len() > 0 {
		answer.Set("exception", o.Exceptions)
	}
	return answer.Object()
}

func (h *Halt) exception(of rule.PluginFilter) payload.Value {
	var settings payload.Entries
	settings.Set("message", payload.StringValue(h.Message))
	if of.RedirectTo {
		settings.Set("redirect_to", payload.StringValue(h.RedirectTo))
	}
	if of.StatusCode && h.Status != 0 {
		settings.Set("status_code", payload.IntValue(int64(h.Status)))
	}
	return payload.ObjectValue([]string{of.Exception}, []payload.Value{settings.Object()})
}
