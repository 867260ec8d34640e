package rule

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// noon is when things happen in these tests; rows are older.
var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// at returns a moment some minutes after noon.
func at(minutes float64) time.Time { return noon.Add(time.Duration(minutes * float64(time.Minute))) }

// optionOfRow1 returns the option of row 1.
func optionOfRow1(option Option) []Option {
	list := rows(1)
	option.Key, option.RuleCreated = Key{Webhooks, list[0].ID}, list[0].Created
	return []Option{option}
}

// spans writes the windows of a rule as minutes after noon, skew included.
func spans(r *Rule) string {
	minutes := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return fmt.Sprintf("%g", t.Sub(noon).Minutes())
	}
	if len(r.periods) == 0 {
		return "all"
	}
	var texts []string
	for _, w := range r.periods {
		texts = append(texts, minutes(w.From)+".."+minutes(w.Until))
	}
	return strings.Join(texts, " ")
}

// Every state that a row and its option can be in together, where only adopted rows are rules and where the enabled ones are.
func TestPossession(t *testing.T) {
	t.Parallel()
	const earlier = `{"earlier":[{"from":"2026-06-01T10:00:00Z","until":"2026-06-01T11:00:00Z"}]}`
	for _, c := range []struct {
		name     string
		enabled  bool    // the row's own switch, which is the plugin's
		modified float64 // of the row
		option   *Option
		// where only adopted rows are rules
		status    Status
		periods   string
		contended bool
		fault     string
		// where the enabled rows are
		plain Status
	}{
		{name: "the plugin's", enabled: true, status: Foreign, periods: "all", contended: true, plain: Active},
		{name: "the plugin's, off", status: Disabled, periods: "all", plain: Disabled},
		{
			name: "the plugin's, with options", enabled: true, option: &Option{Enabled: true},
			status: Foreign, periods: "all", contended: true, plain: Active,
		},
		{
			name: "the plugin's, paused", enabled: true, option: &Option{Enabled: true, PausedAt: at(0)},
			status: Foreign, periods: "all", contended: true, plain: Paused,
		},
		{name: "adopted", option: &Option{Enabled: true, AdoptedAt: at(0)}, status: Active, periods: "-1..", plain: Active},
		{name: "adopted, off", option: &Option{AdoptedAt: at(0)}, status: Disabled, periods: "-1..", plain: Disabled},
		{
			name: "adopted, paused", option: &Option{Enabled: true, AdoptedAt: at(0), PausedAt: at(5)},
			status: Paused, periods: "-1..", plain: Paused,
		},
		{
			name: "adopted, off and paused", option: &Option{AdoptedAt: at(0), PausedAt: at(5)},
			status: Disabled, periods: "-1..", plain: Disabled,
		},
		{
			name: "contested", enabled: true, modified: 30, option: &Option{Enabled: true, AdoptedAt: at(0)},
			status: Released, periods: "-1..31", contended: true, fault: "rules adopt 1", plain: Active,
		},
		{
			name: "contested, no time noted", enabled: true, modified: -30, option: &Option{Enabled: true, AdoptedAt: at(0)},
			status: Released, periods: "-1..91", contended: true, fault: "rules release 1", plain: Active,
		},
		{
			name: "contested, off", enabled: true, modified: 30, option: &Option{AdoptedAt: at(0)},
			status: Disabled, periods: "-1..31", contended: true, fault: "somebody has enabled it", plain: Active,
		},
		{
			name: "contested, paused", enabled: true, modified: 30, option: &Option{Enabled: true, AdoptedAt: at(0), PausedAt: at(5)},
			status: Paused, periods: "-1..31", contended: true, fault: "somebody has enabled it", plain: Paused,
		},
		{
			name: "released", enabled: true, modified: 10, option: &Option{Enabled: true, AdoptedAt: at(0), ReleasedAt: at(10)},
			status: Released, periods: "-1..11", contended: true, plain: Active,
		},
		{
			name: "released within a second", enabled: true, option: &Option{Enabled: true, AdoptedAt: at(0), ReleasedAt: at(0.01)},
			status: Released, periods: "-1..1.01", contended: true, plain: Active,
		},
		{
			name: "released, and switched off by Django since", option: &Option{Enabled: true, AdoptedAt: at(0), ReleasedAt: at(10)},
			status: Released, periods: "-1..11", plain: Disabled,
		},
		{
			name: "released, off", option: &Option{AdoptedAt: at(0), ReleasedAt: at(10)},
			status: Disabled, periods: "-1..11", plain: Disabled,
		},
		{
			name: "released, paused", enabled: true, option: &Option{Enabled: true, AdoptedAt: at(0), ReleasedAt: at(10), PausedAt: at(5)},
			status: Paused, periods: "-1..11", contended: true, plain: Paused,
		},
		{
			name: "adopted once more", option: &Option{Enabled: true, AdoptedAt: at(20), Document: earlier},
			status: Active, periods: "-121..-59 19..", plain: Active,
		},
		{
			name: "released once more", enabled: true,
			option: &Option{Enabled: true, AdoptedAt: at(20), ReleasedAt: at(25), Document: earlier},
			status: Released, periods: "-121..-59 19..26", contended: true, plain: Active,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			list := rows(1)
			list[0].Enabled, list[0].Modified = c.enabled, at(c.modified)
			var options []Option
			if c.option != nil {
				options = optionOfRow1(*c.option)
			}
			strict := compiler(t)
			strict.Adopted, strict.Now = true, func() time.Time { return at(90) }
			s := NewSnapshot(Tables{Webhooks: list, Options: options}, strict)
			e := s.Entries(Webhooks)[0]
			r, status := s.Lookup(key(1))
			if status != c.status || e.Status() != c.status || s.Count(Webhooks, c.status) != 1 {
				t.Errorf("status %v, want %v", status, c.status)
			}
			if got := spans(r); got != c.periods {
				t.Errorf("windows %s, want %s", got, c.periods)
			}
			if s.Contended(enrollmentCreated) != c.contended {
				t.Errorf("contended %v", !c.contended)
			}
			if (e.Fault == "") != (c.fault == "") || !strings.Contains(e.Fault, c.fault) {
				t.Errorf("fault %q, want one with %q", e.Fault, c.fault)
			}
			matched := slices.Contains([]Status{Active, Released, Paused}, c.status)
			if (len(s.Match(enrollmentCreated)) == 1) != matched {
				t.Errorf("matched %v", !matched)
			}
			// What waits is sent while the rule is active, and when it has been released.
			if (s.Active(key(1)) != nil) != (c.status == Active || c.status == Released) || s.Paused(key(1)) != (c.status == Paused) {
				t.Error("Active or Paused is wrong")
			}
			plain := NewSnapshot(Tables{Webhooks: list, Options: options}, compiler(t))
			r, status = plain.Lookup(key(1))
			if status != c.plain || spans(r) != "all" || plain.Contended(enrollmentCreated) || plain.Entries(Webhooks)[0].Fault != "" {
				t.Errorf("where the enabled rows are rules: %v for %s, contended %v, fault %q; want %v", status, spans(r),
					plain.Contended(enrollmentCreated), plain.Entries(Webhooks)[0].Fault, c.plain)
			}
		})
	}
}

func TestTakes(t *testing.T) {
	t.Parallel()
	r := &Rule{periods: []OwnershipPeriod{{From: at(0), Until: at(10)}, {From: at(20), Until: at(30)}, {From: at(40)}}}
	for minutes, want := range map[float64]bool{
		-0.001: false, 0: true, 9.999: true, 10: false, 19.999: false, 20: true, 29.999: true, 30: false, 39: false, 40: true, 1e6: true,
	} {
		if r.Takes(at(minutes), time.Time{}) != want || !r.Always().Takes(at(minutes), time.Time{}) {
			t.Errorf("%v minutes after noon: %v, want %v", minutes, !want, want)
		}
	}
	open := &Rule{}
	if !open.Takes(time.Time{}, time.Time{}) || open.Always() != open {
		t.Error("a rule without windows does not take all")
	}
	if r.Takes(at(15), time.Time{}) {
		t.Error("Always has changed the rule")
	}
}

// A type is wanted at the times at which one of its rules takes events, and contended if one of its rows is sent by the plugin.
func TestWantsAtTimes(t *testing.T) {
	t.Parallel()
	list := rows(3)
	list[0].Enabled, list[1].Enabled, list[2].Event = false, false, "BADGE_AWARDED"
	options := []Option{
		{
			Key: Key{Webhooks, 1}, RuleCreated: list[0].Created, Enabled: true, AdoptedAt: at(0), ReleasedAt: at(10),
		},
		{Key: Key{Webhooks, 2}, RuleCreated: list[1].Created, Enabled: true, AdoptedAt: at(30)},
	}
	strict := compiler(t)
	strict.Adopted = true
	s := NewSnapshot(Tables{Webhooks: list, Options: options}, strict)
	for minutes, want := range map[float64]bool{-2: false, -1: true, 5: true, 10.9: true, 11: false, 28: false, 29: true, 100: true} {
		if s.Wants(enrollmentCreated, at(minutes), time.Time{}) != want {
			t.Errorf("%v minutes after noon: wanted %v", minutes, !want)
		}
	}
	const badge = "org.openedx.learning.badge.awarded.v1"
	if s.Wants(badge, at(0), time.Time{}) || !s.Contended(badge) || s.Contended(enrollmentCreated) || s.EventTypes() != 1 {
		t.Error("the plugin's row is wanted, or its type is not contended")
	}
	// What the row becomes takes effect though the others are kept from one snapshot to the next.
	options = append(options, Option{Key: Key{Webhooks, 3}, RuleCreated: list[2].Created, Enabled: true, AdoptedAt: at(40)})
	list[2].Enabled, list[2].Modified = false, at(40)
	next := s.next(Tables{Webhooks: list, Options: options}, strict)
	if !next.Wants(badge, at(40), time.Time{}) || next.Contended(badge) || next.Match(enrollmentCreated)[0] != s.Match(enrollmentCreated)[0] {
		t.Error("the adoption did not arrive, or other rules were compiled again")
	}
}

// The platform stamps some events with another time than that of their emission.
func TestTakesByTheRecord(t *testing.T) {
	t.Parallel()
	adopted := &Rule{periods: []OwnershipPeriod{{From: at(100)}}}
	released := &Rule{periods: []OwnershipPeriod{{From: at(100), Until: at(200)}}}
	for name, c := range map[string]struct {
		rule         *Rule
		at, recorded float64
		want         bool
	}{
		"an old edit, published after the adoption":         {adopted, -1e6, 101, true},
		"an old edit, published before the adoption":        {adopted, -1e6, 99, false},
		"emitted before, recorded a moment after":           {adopted, 99.9, 100.1, true},
		"emitted before the release, recorded late":         {released, 199, 230, true},
		"emitted and recorded after the release":            {released, 201, 202, false},
		"an old edit, published after the release":          {released, 150, 300, false},
		"an old edit, published while it was adopted":       {released, -1e6, 150, true},
		"a clock ahead of the broker's, around a release":   {released, 201, 199, false},
		"a clock ahead of the broker's, around an adoption": {adopted, 101, 99, true},
	} {
		if got := c.rule.Takes(at(c.at), at(c.recorded)); got != c.want {
			t.Errorf("%s: taken is %v", name, got)
		}
	}
}
