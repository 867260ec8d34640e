package store_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

func (b *bench) laneRecords(t *testing.T) delivery.LaneRecords {
	t.Helper()
	records, err := b.store.LaneRecords(t.Context())
	must(t, err)
	return records
}

// record returns the lane record of a lane, the zero one where there is none.
func (b *bench) record(t *testing.T, l delivery.Lane) delivery.LaneRecord {
	t.Helper()
	for _, r := range b.laneRecords(t).Lanes {
		if r.Lane == l {
			return r
		}
	}
	return delivery.LaneRecord{}
}

func (b *bench) measure(t *testing.T, every time.Duration, measured bool) {
	t.Helper()
	got, err := b.store.MeasureLanes(t.Context(), every)
	must(t, err)
	want(t, "measured", got, measured)
}

func between(t *testing.T, what string, got, least, most time.Duration) {
	t.Helper()
	if got < least || got > most {
		t.Errorf("%s: got %s, want %s to %s", what, got, least, most)
	}
}

func markFailing(t *testing.T, b *bench) {
	want(t, "records of an empty table", len(b.laneRecords(t).Lanes), 0)
	must(t, b.store.ClearFailing(t.Context(), lane(1)))
	must(t, b.store.MarkFailing(t.Context(), lane(1), time.Hour))
	must(t, b.store.MarkFailing(t.Context(), lane(1), 2*time.Hour))
	must(t, b.store.MarkFailing(t.Context(), lane(1), time.Minute))
	must(t, b.store.MarkFailing(t.Context(), lane(2), 1500*time.Millisecond))
	r := b.record(t, lane(1))
	want(t, "failing", r.Failing, true)
	between(t, "the first mark stays", r.FailingFor, time.Hour, time.Hour+time.Minute)
	between(t, "fraction of a second", b.record(t, lane(2)).FailingFor, 1500*time.Millisecond, time.Minute)
	want(t, "measured", b.laneRecords(t).Measured, false)
	must(t, b.store.ClearFailing(t.Context(), lane(1)))
	want(t, "failing, cleared", b.record(t, lane(1)).Failing, false)
	want(t, "failing, the other lane", b.record(t, lane(2)).Failing, true)
	must(t, b.store.MarkFailing(t.Context(), lane(1), 0))
	between(t, "marked anew", b.record(t, lane(1)).FailingFor, 0, time.Minute)
}

func measureLanes(t *testing.T, b *bench) {
	b.measure(t, time.Minute, true)
	b.measure(t, time.Minute, false)
	want(t, "dead rows of an empty queue are measured", b.laneRecords(t).Measured, true)
	rows := pendings(0, 4)
	for i := range rows {
		rows[i].Body = make([]byte, 100)
	}
	rows[2].Delay = -time.Hour
	later, dead := pending(10, 3), pending(9, 2)
	later.Delay, dead.State = time.Hour, delivery.Dead
	filtered := pending(11, 1)
	filtered.Kind = delivery.KindEvent
	b.insert(t, append(rows, later, dead, filtered)...)
	b.claim(t, 1, 1, time.Hour, tokenOf(1)) // leased rows wait, too; this was the one due for an hour
	mustExec(t, b.admin, `INSERT INTO openedx_webhooks_webhook (id, created, modified, event, webhook_url, enabled, use_www_form_encoding)
  VALUES (3, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), 'E', 'u', 1, 0), (4, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), 'E', 'u', 1, 0)`)
	must(t, b.store.MarkFailing(t.Context(), lane(3), time.Minute))
	must(t, b.store.MarkFailing(t.Context(), lane(4), time.Minute)) // never had a row
	must(t, b.store.MarkFailing(t.Context(), lane(5), time.Minute)) // its rule is gone
	want(t, "rows before they are measured", b.record(t, lane(1)).Rows, 0)
	b.measure(t, 0, true)
	records := b.laneRecords(t)
	want(t, "measured", records.Measured, true)
	between(t, "measured for", records.MeasuredFor, 0, time.Minute)
	want(t, "dead rows", records.DeadRows, 1)
	var got []string
	for _, r := range records.Lanes {
		got = append(got, fmt.Sprintf("%s %d: %d rows, %d bytes, failing %t", r.Lane.Kind, r.Lane.RuleID, r.Rows, r.Bytes, r.Failing))
	}
	want(t, "records", strings.Join(got, "\n"), `webhook 1: 4 rows, 400 bytes, failing false
webhook 3: 1 rows, 9 bytes, failing true
webhook 4: 0 rows, 0 bytes, failing true
event 1: 1 rows, 9 bytes, failing false`)
	between(t, "due", b.record(t, lane(1)).DueFor, 0, time.Minute)
	between(t, "due later", b.record(t, lane(3)).DueFor, -time.Hour, -59*time.Minute)

	// Once there is nothing, a record goes or, with a mark, says so.
	mustExec(t, b.admin, "UPDATE webhook_dispatcher_delivery SET state = 2, due_at = NULL")
	b.measure(t, 0, true)
	want(t, "record of an empty lane", b.record(t, lane(1)).Lane, delivery.Lane{})
	r := b.record(t, lane(3))
	want(t, "rows of an empty lane with a mark", r.Rows, 0)
	want(t, "bytes of an empty lane with a mark", r.Bytes, 0)
	want(t, "due in an empty lane with a mark", r.DueFor, 0)
	want(t, "its mark", r.Failing, true)
	want(t, "dead rows", b.laneRecords(t).DeadRows, 0)
	must(t, b.store.ClearFailing(t.Context(), lane(3)))
	b.measure(t, 0, true)
	want(t, "record of an empty lane, its mark cleared", b.record(t, lane(3)).Lane, delivery.Lane{})
}

// measureAtOnce: one of many replicas measures, and none is undone by the others.
func measureAtOnce(t *testing.T, b *bench) {
	b.insert(t, pendings(0, 50)...)
	stores := [...]*store.Store{b.store, openStore(t, b.serveDSN, nil)}
	for range 3 {
		var measured atomic.Int32
		var wg sync.WaitGroup
		for n := range 8 {
			wg.Go(func() {
				ok, err := stores[n%2].MeasureLanes(t.Context(), time.Minute)
				if err != nil {
					t.Errorf("MeasureLanes: %v", err)
				}
				if ok {
					measured.Add(1)
				}
			})
			wg.Go(func() {
				if err := stores[n%2].MarkFailing(t.Context(), lane(int32(n)), time.Hour); err != nil {
					t.Errorf("MarkFailing: %v", err)
				}
				if err := stores[n%2].ClearFailing(t.Context(), lane(int32(n))); err != nil {
					t.Errorf("ClearFailing: %v", err)
				}
			})
		}
		wg.Wait()
		want(t, "replicas that measured", measured.Load(), 1)
		want(t, "rows", b.record(t, lane(1)).Rows, 50)
		mustExec(t, b.admin, "UPDATE webhook_dispatcher_lane SET measured_at = DATE_SUB(measured_at, INTERVAL 1 HOUR)")
	}
	// A clock that was put back holds up nothing.
	mustExec(t, b.admin, "UPDATE webhook_dispatcher_lane SET measured_at = DATE_ADD(UTC_TIMESTAMP(3), INTERVAL 1 DAY)")
	b.measure(t, time.Minute, true)
}

func measureMany(t *testing.T, b *bench) {
	var rows []delivery.Insert
	for n := range 1201 { // more than go into one statement
		rows = append(rows, pending(n, int32(n+1)))
	}
	b.insert(t, rows...)
	b.measure(t, 0, true)
	want(t, "lanes", one[int](t, b.admin, "SELECT COUNT(*) FROM webhook_dispatcher_lane WHERE kind = 1 AND waiting_rows = 1"), 1201)
	mustExec(t, b.admin, "DELETE FROM webhook_dispatcher_delivery")
	b.measure(t, 0, true)
	want(t, "lanes left", one[int](t, b.admin, "SELECT COUNT(*) FROM webhook_dispatcher_lane WHERE kind = 1"), 0)
}

func countAttempts(t *testing.T, b *bench) {
	now := one[time.Time](t, b.admin, "SELECT UTC_TIMESTAMP(3)")
	var log []delivery.Attempt
	for n := range 12 { // the oldest first
		log = append(log, delivery.Attempt{ID: idOf(1), Kind: 1, RuleID: 1, Number: n, At: now.Add(time.Duration(n-12) * time.Hour)})
	}
	must(t, b.store.LogAttempts(t.Context(), append(log, delivery.Attempt{ID: idOf(2), Kind: 1, RuleID: 2, At: now})))
	for _, c := range []struct {
		rule  int32
		age   time.Duration
		limit int
		n     int
	}{
		{1, 24 * time.Hour, 100, 12},
		{1, 24 * time.Hour, 10, 10},
		{1, 210 * time.Minute, 10, 3},
		{1, 0, 10, 0},
		{2, time.Hour, 10, 1},
		{3, time.Hour, 10, 0},
	} {
		n, err := b.store.CountAttempts(t.Context(), lane(c.rule), c.age, c.limit)
		must(t, err)
		want(t, fmt.Sprintf("attempts of %+v", c), n, c.n)
	}
}

// noLaneTable: a program that is newer than the tables, or whose account was given no right to the new one, says so.
func noLaneTable(t *testing.T, b *bench) {
	if b.target.Real {
		mustExec(t, b.admin, fmt.Sprintf("REVOKE SELECT, INSERT, UPDATE, DELETE ON %s.webhook_dispatcher_lane FROM '%s_serve'@'%%'",
			b.database, b.database))
	} else {
		mustExec(t, b.admin, "DROP TABLE webhook_dispatcher_lane")
	}
	s := openStore(t, b.serveDSN, nil) // with the rights of now
	l, _ := b.addRule(t, "u")
	_, records := s.LaneRecords(t.Context())
	_, measured := s.MeasureLanes(t.Context(), 0)
	_, paused := s.PauseRule(t.Context(), l.Lane(), delivery.ReasonGone)
	_, resumed := s.ResumeRule(t.Context(), l)
	for what, err := range map[string]error{
		"LaneRecords": records, "MeasureLanes": measured, "PauseRule": paused, "ResumeRule": resumed,
		"MarkFailing": s.MarkFailing(t.Context(), l.Lane(), 0), "ClearFailing": s.ClearFailing(t.Context(), l.Lane()),
	} {
		text := fmt.Sprint(err)
		if err == nil || !strings.Contains(text, "webhook_dispatcher_lane") || !strings.Contains(text, "run `webhook-dispatcher migrate`") ||
			strings.Contains(text, "GRANT SELECT, INSERT, UPDATE, DELETE") != b.target.Real {
			t.Errorf("%s: got %v, want the table named and what to do", what, err)
		}
	}
	// What can do without goes on.
	b.insert(t, pending(1, l.ID))
	want(t, "claimed", len(b.claim(t, l.ID, 1, time.Minute, tokenOf(1))), 1)
	_, err := ruleOptions(t, s)
	must(t, err)
	want(t, "a pause that failed left nothing", one[int](t, b.admin, "SELECT COUNT(*) FROM webhook_dispatcher_rule_option"), 0)
}
