package rule

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

func lane(id int32) delivery.Lane { return key(id).Lane() }

func key(id int32) Key { return Key{Webhooks, id} }

// pausedSince returns the option of a paused row.
func pausedSince(row Row, at time.Time) Option {
	return Option{Key: Key{Webhooks, row.ID}, RuleCreated: row.Created, PausedAt: at}
}

func TestPausedRules(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	list := rows(8)
	list[2].Enabled = false
	list[3].URL = "ftp://h/"
	list[7].Event = "BADGE_AWARDED"
	options := []Option{
		pausedSince(list[7], at), // not in the order of ids
		pausedSince(list[0], at),
		pausedSince(list[1], time.Time{}), // was paused once
		pausedSince(list[2], at),
		pausedSince(list[3], at),
		pausedSince(Row{ID: list[4].ID, Created: list[4].Created.Add(-time.Hour)}, at), // of a row whose id was used again
		{Key: Key{Table(delivery.KindInbox), list[5].ID}, RuleCreated: list[5].Created, PausedAt: at},
		pausedSince(Row{ID: 99, Created: list[0].Created}, at),                                    // of no row
		pausedSince(Row{ID: list[6].ID, Created: list[6].Created.In(time.FixedZone("", 60))}, at), // the same moment, written otherwise
	}
	s := NewSnapshot(Tables{Webhooks: list, Options: options}, compiler(t))
	var matched []int32
	for _, r := range s.Match(enrollmentCreated) {
		matched = append(matched, r.ID)
	}
	if !slices.Equal(matched, []int32{1, 2, 5, 6, 7}) {
		t.Errorf("matched %v: a paused rule's events must be kept, a disabled one's not", matched)
	}
	if !s.Wants("org.openedx.learning.badge.awarded.v1", time.Time{}, time.Time{}) {
		t.Error("an event that a paused rule alone wants is not wanted")
	}
	for id, want := range map[int32]Status{
		1: Paused, 2: Active, 3: Disabled, 4: Faulty, 5: Active, 6: Active, 7: Paused, 8: Paused, 99: Absent,
	} {
		rule, status := s.Lookup(key(id))
		if status != want || (rule != nil) != (want == Active || want == Paused || want == Disabled) {
			t.Errorf("rule %d: %v %v, want %v", id, rule, status, want)
		}
		if s.Paused(key(id)) != (want == Paused) || (s.Active(key(id)) != nil) != (want == Active) {
			t.Errorf("rule %d: Paused or Active is wrong", id)
		}
	}
	if s.Paused(Key{Table(delivery.KindInbox), 6}) {
		t.Error("a lane without a rule is paused")
	}
	if s.Count(Webhooks, Paused) != 3 || s.Count(Webhooks, Active) != 3 || Paused.String() != "paused" {
		t.Errorf("%d paused, %d active", s.Count(Webhooks, Paused), s.Count(Webhooks, Active))
	}
	for id, want := range map[int]time.Time{1: at, 2: {}, 3: at, 4: at, 5: {}} {
		if e := s.Entries(Webhooks)[id-1]; !e.PausedAt().Equal(want) {
			t.Errorf("rule %d paused at %s, want %s: people must see it of a disabled or faulty rule as well", id, e.PausedAt(), want)
		}
	}
	slices.Reverse(options)
	if !s.same(&Tables{Webhooks: list, Options: options}) {
		t.Error("the same options in another order count as a change")
	}
	options[0].PausedAt = at.Add(time.Second)
	if s.same(&Tables{Webhooks: list, Options: options}) || s.same(&Tables{Webhooks: list, Options: options[1:]}) {
		t.Error("a change of options was not seen")
	}
}

// What has not changed must not be compiled again, and what has must be.
func TestUnchangedRulesAreKept(t *testing.T) {
	t.Parallel()
	events := compiler(t)
	list := rows(4)
	list[3].URL = " https://h/"
	before := NewSnapshot(Tables{Webhooks: list}, events)
	changed := slices.Clone(list)
	changed[1].URL = "https://other/"
	slices.Reverse(changed)
	options := []Option{pausedSince(list[2], time.Unix(1, 0))}
	after := before.next(Tables{Webhooks: changed, Options: options}, events)
	for id, kept := range map[int32]bool{1: true, 2: false, 3: false, 4: true} {
		old, _ := before.Lookup(key(id))
		now, _ := after.Lookup(key(id))
		if old == nil || now == nil || (old == now) != kept {
			t.Errorf("rule %d: kept %v, want %v", id, old == now, kept)
		}
	}
	if r, _ := after.Lookup(key(2)); r.Target != "https://other" {
		t.Errorf("target %q of the changed rule", r.Target)
	}
	same := after.same(&Tables{Webhooks: changed, Options: options})
	if !same || after.Count(Webhooks, Paused) != 1 || len(after.Match(enrollmentCreated)) != 4 {
		t.Error("the next snapshot differs from what it was made of")
	}
	gone := after.next(Tables{Webhooks: changed[:1]}, events)
	if len(gone.Entries(Webhooks)) != 1 || len(gone.Match(enrollmentCreated)) != 1 || !gone.same(&Tables{Webhooks: changed[:1]}) {
		t.Errorf("rows that are gone are there: %+v", gone.Entries(Webhooks))
	}
	if e := gone.Entries(Webhooks)[0]; e.Row.URL != " https://h/" || e.Rule.URL != "https://h/" {
		t.Errorf("row %q, rule %q: a row must stay as it is stored", e.Row.URL, e.Rule.URL)
	}
}

func TestRefresherPauses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := &table{rows: rows(2)}
		r, log, _ := newRefresher(t, source)
		if r.Paused(lane(1)) {
			t.Error("paused before anything was loaded")
		}
		refresh := func() {
			t.Helper()
			if err := r.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		refresh()
		first := r.Current()
		source.set(func(s *table) { s.options = []Option{pausedSince(s.rows[0], time.Unix(1, 0))} })
		refresh()
		if now := r.Current(); now == first || now.Active(key(2)) != first.Active(key(2)) {
			t.Error("a rule that has not changed was compiled again")
		}
		if !r.Paused(lane(1)) || r.Paused(lane(2)) || r.Active(lane(1)) != nil || r.Active(lane(2)) == nil {
			t.Error("the pause did not arrive")
		}
		if first.Paused(key(1)) {
			t.Error("a snapshot changed")
		}
		paused := r.Current()
		refresh()
		if r.Current() != paused {
			t.Error("unchanged options were compiled again")
		}
		source.set(func(s *table) { s.rows, s.err = rows(5), errors.New("gone away") })
		if err := r.Refresh(t.Context()); err == nil || r.Current() != paused {
			t.Errorf("new rows came into force without their options: %v", err)
		}
		source.set(func(s *table) { s.options, s.err = nil, nil })
		refresh()
		if r.Paused(lane(1)) || r.Active(lane(5)) == nil {
			t.Error("the rule was not resumed")
		}
		if n := strings.Count(log.String(), "active=1 released=0 paused=1 disabled=0 foreign=0 faulty=0"); n != 1 {
			t.Errorf("the pause was logged %d times:\n%s", n, log)
		}
	})
}

// compileStored compiles a row as it is stored.
func compileStored(c *Compiler, row Row, option *Option) (r *Rule, hold string, err error) {
	e := c.entry(key(row.ID), stored{row: &row}, option)
	if e.Rule == nil {
		err = errors.New(e.Fault)
	}
	return e.Rule, e.Hold, err
}

// webfilterOf does what compileStored does.
func webfilterOf(c *Compiler, row WebfilterRow, option *Option) (f *Webfilter, hold string, err error) {
	e := c.entry(Key{Webfilters, row.ID}, stored{&row.Row, &row}, option)
	if e.Webfilter == nil {
		err = errors.New(e.Fault)
	}
	return e.Webfilter, e.Hold, err
}
