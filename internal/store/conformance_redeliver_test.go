package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// everyState makes rows 1 to 6 of rule 1: pending, leased, delivered, dead, dead without a body, halted.
func (b *bench) everyState(t *testing.T) {
	t.Helper()
	for n, state := range map[int]delivery.State{3: delivery.Delivered, 6: delivery.Halted, 2: delivery.Leased} {
		b.insert(t, pending(n, 1))
		b.claim(t, 1, 1, time.Hour, tokenOf(n))
		if state == delivery.Leased {
			continue
		}
		_, err := b.store.Finish(t.Context(), []delivery.Update{{ID: idOf(n), Token: tokenOf(n), State: state}})
		must(t, err)
	}
	b.insert(t, pending(1, 1), dead(4, 1), bodyless(5, 1))
}

func standings(t *testing.T, b *bench) {
	b.everyState(t)
	ids := []delivery.ID{idOf(99)}
	for n := range 1200 { // more than a statement takes
		ids = append(ids, idOf(n+1))
	}
	got, err := b.store.Standings(t.Context(), ids)
	must(t, err)
	want(t, "rows", len(got), 6)
	for n, w := range map[int]string{
		1: "pending true", 2: "leased true", 3: "delivered false", 4: "dead true", 5: "dead false", 6: "halted true",
	} {
		at := got[idOf(n)]
		want(t, fmt.Sprintf("row %d", n), fmt.Sprint(at.State, " ", at.Kept), w)
		want(t, "number", at.RowID, b.get(t, idOf(n)).RowID)
	}
	none, err := b.store.Standings(t.Context(), nil)
	must(t, err)
	want(t, "of none", len(none), 0)
}

// restore gives a body to the dead row that has none, and to no other.
func restore(t *testing.T, b *bench) {
	b.everyState(t)
	before := make(map[int]string)
	for _, n := range []int{1, 2, 3, 4, 6} {
		before[n] = fmt.Sprintf("%+v", b.get(t, idOf(n)))
	}
	var rows []delivery.Insert
	for n := 7; n >= 0; n-- {
		row := pending(n, 1)
		row.Body, row.Format = []byte("name='\\\x00\xff"), delivery.FormatForm
		rows = append(rows, row)
	}
	empty := pending(5, 1)
	empty.Body = nil
	large := pending(8, 1)
	large.Body = make([]byte, b.store.MaxBody()+1)
	rows = append(rows, empty, large)
	for _, w := range []int{1, 0} { // the second call finds nothing to do
		n, err := b.store.Restore(t.Context(), rows)
		var rejected *delivery.RejectedError
		if !errors.As(err, &rejected) || len(rejected.Rows) != 1 || rejected.Rows[0].Index != len(rows)-1 {
			t.Fatalf("a body too large: %v", err)
		}
		want(t, "restored", n, w)
	}
	got := b.get(t, idOf(5))
	want(t, "row", fmt.Sprintf("%s %q %q %d %d %d", got.State, got.Reason, got.Body, got.Format, got.Attempts, got.Claims),
		fmt.Sprintf("pending %q %q %d 0 0", "", "name='\\\x00\xff", delivery.FormatForm))
	want(t, "due", got.DueAt, got.UpdatedAt)
	want(t, "size", b.count(t, "body_size = 9"), 1)
	for n, w := range before {
		want(t, fmt.Sprintf("row %d", n), fmt.Sprintf("%+v", b.get(t, idOf(n))), w)
	}
	n, err := b.store.Restore(t.Context(), nil)
	must(t, err)
	want(t, "of none", n, 0)
}

func endedPages(t *testing.T, b *bench) {
	const total = 1203
	rows := []delivery.Insert{bodyless(5000, 1), bodyless(5003, 2), dead(5001, 2), pending(5002, 1)}
	for n := range total {
		rows = append(rows, dead(n, 1))
	}
	b.insert(t, rows...)
	rule := lane(1)
	f := store.Selection{Lane: &rule, Until: b.soon(t)}
	for _, limit := range []int{100, 5000} {
		seen := make(map[uint64]bool)
		var at store.EndedRow
		pages := 0
		for {
			page, next, err := b.store.EndedPage(t.Context(), delivery.Dead, f, at, limit)
			must(t, err)
			pages++
			for i := range page {
				want(t, "met before", seen[page[i].RowID], false)
				seen[page[i].RowID] = true
			}
			if len(page) < min(limit, 500) {
				break
			}
			at = next
		}
		want(t, "rows", len(seen), total+1)
		want(t, "pages", pages, (total+1)/min(limit, 500)+1)
	}
	var at store.EndedRow
	for name, err := range map[string]error{
		"pending": func() error { _, _, err := b.store.EndedPage(t.Context(), delivery.Pending, f, at, 1); return err }(),
		"no end": func() error {
			_, _, err := b.store.EndedPage(t.Context(), delivery.Dead, store.Selection{}, at, 1)
			return err
		}(),
		"limit 0": func() error { _, _, err := b.store.EndedPage(t.Context(), delivery.Dead, f, at, 0); return err }(),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func waitingRows(t *testing.T, b *bench) {
	b.everyState(t)
	b.insert(t, pending(20, 2))
	n, err := b.store.Waiting(t.Context(), lane(1))
	must(t, err)
	want(t, "of rule 1", n, 2)
	n, err = b.store.Waiting(t.Context(), lane(3))
	must(t, err)
	want(t, "of a rule without rows", n, 0)
}

// kept keeps records and returns their numbers.
func (b *bench) kept(t *testing.T, reasons ...string) []uint64 {
	t.Helper()
	for n, reason := range reasons {
		must(t, b.store.InsertUndecodable(t.Context(), store.Undecodable{Topic: "t", Offset: int64(n), Time: eventTime, Reason: reason}))
	}
	ids, err := b.store.UndecodableIDs(t.Context(), "", 0, 1<<62, 500)
	must(t, err)
	return ids
}

func undecodableIDs(t *testing.T, b *bench) {
	ids := b.kept(t, "corrupt", "bad_magic", "corrupt", "corrupt")
	for _, c := range []struct {
		reason      string
		after, upTo uint64
		limit       int
		want        []uint64
	}{
		{"", 0, 1 << 62, 500, ids},
		{"", ids[0], ids[2], 500, ids[1:3]},
		{"corrupt", 0, 1 << 62, 2, []uint64{ids[0], ids[2]}},
		{"corrupt", ids[2], 1 << 62, 2, ids[3:]},
		{"é", 0, 1 << 62, 2, nil},
		{"", 0, 1 << 62, 0, nil},
	} {
		got, err := b.store.UndecodableIDs(t.Context(), c.reason, c.after, c.upTo, c.limit)
		must(t, err)
		want(t, fmt.Sprintf("%+v", c), fmt.Sprint(got), fmt.Sprint(c.want))
	}
}

func (b *bench) records(t testing.TB) int {
	t.Helper()
	return one[int](t, b.admin, "SELECT COUNT(*) FROM webhook_dispatcher_undecodable")
}

func redeliver(t *testing.T, b *bench) {
	ids := b.kept(t, "a", "b", "c", "d")
	b.insert(t, dead(2, 1))
	replayed := func(n int) delivery.Insert {
		row := pending(n, 1)
		row.Reason = delivery.ReasonReplay
		return row
	}
	do := func(record uint64, w bool, rows ...delivery.Insert) {
		t.Helper()
		done, err := b.store.Redeliver(t.Context(), record, rows)
		must(t, err)
		want(t, "done", done, w)
	}
	do(ids[0], true, replayed(3), replayed(1), replayed(2), replayed(1))
	want(t, "records", b.records(t), 3)
	want(t, "pending rows", b.count(t, "state = 0 AND reason = 'replay' AND due_at <= UTC_TIMESTAMP(3)"), 2)
	want(t, "the row that was there", b.get(t, idOf(2)).State, delivery.Dead)
	do(ids[0], false, replayed(4)) // gone: whoever was faster has made its rows
	want(t, "rows", b.count(t, "TRUE"), 3)
	do(ids[1], true) // wanted by no rule
	want(t, "records", b.records(t), 2)
	large := replayed(6)
	large.Body = make([]byte, b.store.MaxBody()+1)
	var rejected *delivery.RejectedError
	if done, err := b.store.Redeliver(t.Context(), ids[2], []delivery.Insert{replayed(5), large}); done || !errors.As(err, &rejected) {
		t.Errorf("a body too large: %v, %v", done, err)
	}
	if done, err := b.store.Redeliver(t.Context(), ids[2], []delivery.Insert{dead(5, 1)}); done || err == nil {
		t.Errorf("a dead row: %v, %v", done, err)
	}
	want(t, "records after refusals", b.records(t), 2)
	want(t, "rows after refusals", b.count(t, "TRUE"), 3)
	// More than one statement takes, in rows and in bytes.
	var many []delivery.Insert
	for n := 100; n < 1300; n++ {
		many = append(many, replayed(n))
	}
	for n := 1300; n < 1303; n++ {
		row := replayed(n)
		row.Body = bytes.Repeat([]byte{'\''}, b.store.MaxBody()/2)
		many = append(many, row)
	}
	do(ids[2], true, many...)
	want(t, "rows", b.count(t, "TRUE"), 3+len(many))
}

// redeliverUndone: when the rows cannot be made the record is still there.
func redeliverUndone(t *testing.T, b *bench) {
	id := b.kept(t, "a")[0]
	mustExec(t, b.admin, "RENAME TABLE webhook_dispatcher_delivery TO elsewhere")
	if done, err := b.store.Redeliver(t.Context(), id, []delivery.Insert{pending(1, 1)}); done || err == nil {
		t.Errorf("without a table for the rows: %v, %v", done, err)
	}
	mustExec(t, b.admin, "RENAME TABLE elsewhere TO webhook_dispatcher_delivery")
	want(t, "records", b.records(t), 1)
	want(t, "rows", b.count(t, "TRUE"), 0)
	// And the other way round: when the record cannot be removed, no row is left.
	mustExec(t, b.admin, "CREATE TRIGGER stay BEFORE DELETE ON webhook_dispatcher_undecodable FOR EACH ROW SIGNAL SQLSTATE '45000'")
	if done, err := b.store.Redeliver(t.Context(), id, []delivery.Insert{pending(1, 1)}); done || err == nil {
		t.Errorf("with a record that stays: %v, %v", done, err)
	}
	want(t, "rows", b.count(t, "TRUE"), 0)
}

// redeliverAtOnce: many that redeliver one record, beside a pruner that removes it, make its rows once or not at all.
func redeliverAtOnce(t *testing.T, b *bench) {
	for round := range 5 {
		must(t, b.store.InsertUndecodable(t.Context(), store.Undecodable{Topic: "t", Offset: int64(round), Time: eventTime, Reason: "a"}))
		ids, err := b.store.UndecodableIDs(t.Context(), "", 0, 1<<62, 1)
		must(t, err)
		var mu sync.Mutex
		var wg sync.WaitGroup
		done := 0
		for n := range 4 {
			wg.Go(func() {
				// Each would make a row of its own, so that two successes show.
				ok, err := b.store.Redeliver(context.WithoutCancel(t.Context()), ids[0], []delivery.Insert{pending(round*10+n, 1)})
				if err != nil {
					t.Errorf("Redeliver: %v", err)
				}
				mu.Lock()
				defer mu.Unlock()
				if ok {
					done++
				}
			})
		}
		pruned := 0
		wg.Go(func() {
			n, err := b.store.PruneUndecodable(context.WithoutCancel(t.Context()), -time.Hour, 10)
			if err != nil {
				t.Errorf("PruneUndecodable: %v", err)
			}
			pruned = n
		})
		wg.Wait()
		want(t, "redelivered or pruned", done+pruned, 1)
		want(t, "rows", b.count(t, "TRUE"), done)
		want(t, "records", b.records(t), 0)
		mustExec(t, b.admin, "DELETE FROM webhook_dispatcher_delivery")
	}
}
