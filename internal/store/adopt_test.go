package store

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// hours returns a window in hours before now.
func hours(now time.Time, from, until int) rule.OwnershipPeriod {
	return rule.OwnershipPeriod{From: now.Add(-time.Duration(from) * time.Hour), Until: now.Add(-time.Duration(until) * time.Hour)}
}

func TestWithEarlier(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 4, 5, 6, 7, 890_123_000, time.UTC)
	const day = 24
	var full []rule.OwnershipPeriod // as many as are kept: two hours each, with an hour between
	for n := range maxEarlier {
		full = append(full, hours(now, 100-3*n, 98-3*n))
	}
	added := hours(now, 2, 1)
	for name, c := range map[string]struct{ before, after []rule.OwnershipPeriod }{
		"none":         {nil, []rule.OwnershipPeriod{added}},
		"some":         {full[:2], []rule.OwnershipPeriod{full[0], full[1], added}},
		"out of order": {[]rule.OwnershipPeriod{full[1], full[0]}, []rule.OwnershipPeriod{full[0], full[1], added}},
		"35 days and on": {
			[]rule.OwnershipPeriod{hours(now, 40*day, 35*day+1), hours(now, 40*day, 35*day)},
			[]rule.OwnershipPeriod{hours(now, 40*day, 35*day), added},
		},
		"too many": {full, append([]rule.OwnershipPeriod{{From: full[0].From, Until: full[1].Until}}, append(slices.Clone(full[2:]), added)...)},
		"too many, one in another": {
			append([]rule.OwnershipPeriod{hours(now, 200, 1)}, full[1:]...),
			append([]rule.OwnershipPeriod{hours(now, 200, 1)}, append(slices.Clone(full[2:]), added)...),
		},
	} {
		text, err := json.Marshal(&rule.Document{Filter: "true", Earlier: c.before})
		if err != nil {
			t.Fatal(err)
		}
		got, err := withEarlier(string(text), added, now)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		d, err := rule.ParseDocument(got)
		if err != nil || d.Filter != "true" {
			t.Errorf("%s: filter %q, %v", name, d.Filter, err)
		}
		if !slices.EqualFunc(d.Earlier, c.after, func(a, b rule.OwnershipPeriod) bool { return a.From.Equal(b.From) && a.Until.Equal(b.Until) }) {
			t.Errorf("%s: got %v, want %v", name, d.Earlier, c.after)
		}
	}
	if got, err := withEarlier("", hours(now, 40*day, 36*day), now); err != nil || got != "{}" {
		t.Errorf("one that is too old: got %s, %v", got, err)
	}
	for _, broken := range []string{"{", `{"later":1}`} {
		if _, err := withEarlier(broken, added, now); err == nil || !strings.Contains(err.Error(), "replace its options") {
			t.Errorf("%s: got %v, want what to do", broken, err)
		}
	}
}
