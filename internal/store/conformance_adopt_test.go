package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// row returns the row of a lane's rule.
func (b *bench) row(t *testing.T, l rule.Key) rule.Row {
	t.Helper()
	for _, row := range b.rows(t) {
		if row.ID == l.ID {
			return row
		}
	}
	t.Fatalf("there is no rule %d", l.ID)
	return rule.Row{}
}

// switched adopts or releases one rule, and says how it must stand then.
func (b *bench) switched(t *testing.T, adopt bool, l rule.Key, result string) {
	t.Helper()
	do := b.rules.Release
	if adopt {
		do = func(ctx context.Context, keys []rule.Key) ([]store.Switched, error) {
			return b.rules.Adopt(ctx, keys, nil)
		}
	}
	before := b.row(t, l)
	got, err := do(t.Context(), []rule.Key{l})
	must(t, err)
	if len(got) != 1 {
		t.Fatalf("got %d results, want 1", len(got))
	}
	want(t, "result", shown(got[0]), result)
	after := b.row(t, l)
	if moved := after.Modified.After(before.Modified); moved != (after.Enabled != before.Enabled) {
		t.Errorf("modified moved on: %v, enabled from %v to %v", moved, before.Enabled, after.Enabled)
	}
	before.Enabled, before.Modified = after.Enabled, after.Modified
	want(t, "the rest of the row", after, before)
}

func shown(s store.Switched) string {
	text := "the plugin's, off"
	if s.Adopted {
		text = "adopted, off"
	}
	if s.Enabled {
		text = strings.Replace(text, "off", "on", 1)
	}
	if !s.Changed {
		text += ", " + s.Why
	}
	return text
}

// django switches a row as Django's admin does it, at some time.
func (b *bench) django(t *testing.T, l rule.Key, enabled bool, modified time.Time) {
	t.Helper()
	mustExec(t, b.admin, "UPDATE "+b.table()+" SET enabled = ?, modified = ? WHERE id = ?", enabled, modified, l.ID)
}

func (b *bench) earlier(t *testing.T, l rule.Key) []rule.OwnershipPeriod {
	t.Helper()
	d, err := rule.ParseDocument(b.option(t, l).Document)
	must(t, err)
	return d.Earlier
}

// adopt follows a rule through all that can become of it.
func adopt(t *testing.T, b *bench) {
	l, _ := b.addRule(t, "https://h/1")
	b.change(t, l, true, func(o *rule.Option) { o.Document, o.Sealed, o.KeyID = `{"filter":"true"}`, "sealed", "k" })
	b.pause(t, b.store, l, delivery.ReasonGone, true)
	kept := b.option(t, l)
	b.switched(t, false, l, "the plugin's, on, not adopted")
	want(t, "the option, not released", b.option(t, l), kept)

	since := one[time.Time](t, b.admin, "SELECT UTC_TIMESTAMP(6)")
	b.switched(t, true, l, "adopted, on")
	want(t, "enabled for the plugin", b.row(t, l).Enabled, false)
	first := b.option(t, l)
	if at := first.AdoptedAt; at.Before(since) || at != b.row(t, l).Modified {
		t.Errorf("adopted at %s, want the row's time, %s, from %s on", at, b.row(t, l).Modified, since)
	}
	kept.AdoptedAt, kept.Version = first.AdoptedAt, kept.Version+1
	want(t, "the option, adopted", first, kept)
	b.switched(t, true, l, "adopted, on, already adopted")
	want(t, "the option, adopted already", b.option(t, l), first)

	b.switched(t, false, l, "the plugin's, on")
	want(t, "enabled for the plugin, released", b.row(t, l).Enabled, true)
	released := b.option(t, l)
	want(t, "released at", released.ReleasedAt, b.row(t, l).Modified)
	first.ReleasedAt, first.Version = released.ReleasedAt, first.Version+1
	want(t, "the option, released", released, first)
	b.switched(t, false, l, "the plugin's, on, not adopted")

	// Off with the plugin, off with the dispatcher, and on again there.
	b.django(t, l, false, b.row(t, l).Modified)
	b.switched(t, true, l, "adopted, off")
	want(t, "enabled", b.option(t, l).Enabled, false)
	want(t, "released at, adopted again", b.option(t, l).ReleasedAt, time.Time{})
	windows := b.earlier(t, l)
	want(t, "windows", fmt.Sprint(windows), fmt.Sprint([]rule.OwnershipPeriod{{From: first.AdoptedAt, Until: released.ReleasedAt}}))
	again, err := b.rules.SetEnabled(t.Context(), l, true)
	must(t, err)
	want(t, "enabled while adopted", shown(again), "adopted, on")
	b.switched(t, false, l, "the plugin's, on")
	for what, o := range map[string]rule.Option{"first": first, "last": b.option(t, l)} {
		d, err := rule.ParseDocument(o.Document)
		must(t, err)
		want(t, what+": filter", d.Filter, "true")
		want(t, what+": secrets", o.Sealed+o.KeyID, "sealedk")
		want(t, what+": paused at", o.PausedAt, kept.PausedAt)
	}
}

// adoptContested: somebody has enabled an adopted row for the plugin. What is noted of the time until then goes by the row.
func adoptContested(t *testing.T, b *bench) {
	l, _ := b.addRule(t, "u")
	b.switched(t, true, l, "adopted, on")
	_, err := b.rules.SetEnabled(t.Context(), l, false)
	must(t, err)
	adopted := b.option(t, l).AdoptedAt
	contest := func(after time.Duration) time.Time {
		at := b.option(t, l).AdoptedAt.Add(after)
		b.django(t, l, true, at)
		return at
	}
	contested := contest(500 * time.Microsecond)
	for _, on := range []bool{true, false} {
		_, err := b.rules.SetEnabled(t.Context(), l, on)
		says(t, "two switches", err, "it is adopted", "enabled its row for the plugin")
		refused, ok := errors.AsType[*store.ContestedError](err)
		want(t, "two switches, typed", ok && refused.Key == l, true)
	}
	b.switched(t, true, l, "adopted, on")
	want(t, "enabled for the plugin", b.row(t, l).Enabled, false)
	windows := []rule.OwnershipPeriod{{From: adopted, Until: contested}}
	want(t, "windows", fmt.Sprint(b.earlier(t, l)), fmt.Sprint(windows))

	second := b.option(t, l).AdoptedAt
	contested = contest(time.Microsecond)
	b.switched(t, false, l, "the plugin's, on")
	want(t, "enabled for the plugin, released", b.row(t, l).Enabled, true)
	contested = contested.Add(time.Microsecond) // not the time of the row, which a switch of ours would have
	want(t, "released at", b.option(t, l).ReleasedAt, contested)
	b.switched(t, true, l, "adopted, on")
	windows = append(windows, rule.OwnershipPeriod{From: second, Until: contested})
	want(t, "windows, released and adopted", fmt.Sprint(b.earlier(t, l)), fmt.Sprint(windows))

	// Times that cannot be true: nobody has noted when the row was enabled, so it may have been just now.
	third := b.option(t, l).AdoptedAt
	contest(-time.Hour)
	b.switched(t, true, l, "adopted, on")
	windows = append(windows, rule.OwnershipPeriod{From: third, Until: b.option(t, l).AdoptedAt})
	want(t, "windows, a time before it was adopted", fmt.Sprint(b.earlier(t, l)), fmt.Sprint(windows))
	_, err = b.rules.SetEnabled(t.Context(), l, false)
	must(t, err)
	contest(time.Hour)
	b.switched(t, false, l, "the plugin's, on") // what somebody has enabled stays so
	if at := b.option(t, l).ReleasedAt; at.After(one[time.Time](t, b.admin, "SELECT UTC_TIMESTAMP(6)")) {
		t.Errorf("released at %s, which has not come yet", at)
	}
}

// adoptMany: order, repeats, and rules that cannot be switched beside those that can.
func adoptMany(t *testing.T, b *bench) {
	var keys []rule.Key
	for range 4 {
		l, _ := b.addRule(t, "u")
		keys = append(keys, l)
	}
	none, err := b.rules.Adopt(t.Context(), nil, nil)
	must(t, err)
	want(t, "of none", len(none), 0)
	gone := b.key(keys[3].ID + 1)
	mustExec(t, b.admin, "DELETE FROM "+b.table()+" WHERE id = ?", keys[1].ID)
	list := func(switched []store.Switched) string {
		var text []string
		for _, s := range switched {
			text = append(text, fmt.Sprint(s.Key.ID-keys[0].ID, " ", shown(s)))
		}
		return strings.Join(text, "; ")
	}
	got, err := b.rules.Adopt(t.Context(), []rule.Key{gone, keys[3], keys[1], keys[0], keys[3]}, nil)
	noRule(t, err, keys[1])
	says(t, "both that are not there", err, fmt.Sprintf("rule %d", gone.ID))
	want(t, "adopted", list(got), "0 adopted, on; 3 adopted, on")
	// A row that was changed since somebody looked at it is left alone, beside one that was not.
	rows := b.rows(t)
	seen := map[rule.Key]rule.Row{keys[2]: rows[1]}
	mustExec(t, b.admin, "UPDATE "+b.table()+" SET event = 'F' WHERE id = ?", keys[2].ID)
	got, err = b.rules.Adopt(t.Context(), keys[2:], seen)
	says(t, "a row that was changed", err, "its row has changed meanwhile", fmt.Sprintf("rule %d", keys[2].ID))
	want(t, "adopted", list(got), "3 adopted, on, already adopted")
	mustExec(t, b.admin, "UPDATE "+b.table()+" SET event = 'E' WHERE id = ?", keys[2].ID)
	// An option of a later version can be adopted, but nothing can be added to what is not understood.
	b.change(t, keys[2], true, func(o *rule.Option) { o.Document = `{"of_a_later_version":1}` })
	got, err = b.rules.Adopt(t.Context(), keys[2:], nil)
	must(t, err)
	want(t, "adopted", list(got), "2 adopted, on; 3 adopted, on, already adopted")
	got, err = b.rules.Release(t.Context(), keys[2:])
	must(t, err)
	want(t, "released", list(got), "2 the plugin's, on; 3 the plugin's, on")
	before := b.option(t, keys[2])
	got, err = b.rules.Adopt(t.Context(), keys[2:], nil)
	says(t, "options of a later version", err, fmt.Sprintf("rule %d", keys[2].ID), "not as this version knows them")
	want(t, "adopted", list(got), "3 adopted, on")
	want(t, "the option", b.option(t, keys[2]), before)
	want(t, "enabled for the plugin", b.row(t, keys[2]).Enabled, true)
	if _, err := b.rules.Adopt(t.Context(), []rule.Key{{Table: rule.Table(delivery.KindInbox), ID: 1}}, nil); err == nil {
		t.Error("a lane without a rule was adopted")
	}
	// The id of an adopted rule is used again.
	mustExec(t, b.admin, "UPDATE "+b.table()+" SET created = '2024-01-01', enabled = 1 WHERE id = ?", keys[0].ID)
	b.switched(t, false, keys[0], "the plugin's, on, not adopted")
	b.switched(t, true, keys[0], "adopted, on")
	want(t, "windows", len(b.earlier(t, keys[0])), 0)
	if b.target.Real {
		plugins, _ := b.addRule(t, "u")
		for what, do := range map[string]func() error{
			"adopt": func() error {
				_, err := b.store.Adopt(t.Context(), []rule.Key{plugins, keys[3]}, nil)
				return err
			},
			"release": func() error { _, err := b.store.Release(t.Context(), keys[3:]); return err },
			"disable": func() error { _, err := b.store.SetEnabled(t.Context(), plugins, false); return err },
		} {
			says(t, what+" with the grants of serve", do(), "GRANT SELECT, UPDATE ON "+b.table())
		}
		want(t, "the plugin's row, denied", b.row(t, plugins).Enabled, true)
		ofPlugins := one[int](t, b.admin, "SELECT COUNT(*) FROM webhook_dispatcher_rule_option WHERE rule_id = ?", plugins.ID)
		want(t, "its options, denied", ofPlugins, 0)
		want(t, "the adopted one, denied", b.option(t, keys[3]).ReleasedAt, time.Time{})
	}
}
