package store_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// dead returns a row that was given up after nine attempts.
func dead(n int, rule int32) delivery.Insert {
	row := pending(n, rule)
	row.State, row.Attempts, row.Claims, row.Reason, row.LastStatus = delivery.Dead, 9, 12, delivery.ReasonExhausted, 503
	return row
}

// bodyless returns a dead row that was kept without its body.
func bodyless(n int, rule int32) delivery.Insert {
	row := dead(n, rule)
	return delivery.DeadLetter(&row.Delivery, 1, 0)
}

// rowIDs returns the numbers of the rows of deliveries.
func (b *bench) rowIDs(t *testing.T, numbers ...int) []uint64 {
	t.Helper()
	ids := make([]uint64, len(numbers))
	for i, n := range numbers {
		ids[i] = b.get(t, idOf(n)).RowID
	}
	return ids
}

// soon is an end of a time range that lies behind all rows of a test.
func (b *bench) soon(t *testing.T) time.Time {
	t.Helper()
	now, err := b.store.Now(t.Context())
	must(t, err)
	return now.Add(time.Minute)
}

func replayRows(t *testing.T, b *bench) {
	b.insert(t, dead(1, 1), dead(2, 1), bodyless(3, 1), pending(4, 1), pending(5, 2), pending(6, 3))
	b.claim(t, 2, 1, time.Hour, tokenOf(1))
	b.claim(t, 3, 1, time.Hour, tokenOf(2))
	_, err := b.store.Finish(t.Context(), []delivery.Update{{ID: idOf(6), Token: tokenOf(2), State: delivery.Delivered, Attempts: 1}})
	must(t, err)
	ids := append(b.rowIDs(t, 1, 3, 4, 5, 6), 1<<40, b.rowIDs(t, 1)[0])
	for _, w := range []int{1, 0} { // the second call finds nothing dead
		n, err := b.store.Replay(t.Context(), ids)
		must(t, err)
		want(t, "replayed", n, w)
	}
	got := b.get(t, idOf(1))
	want(t, "state", got.State, delivery.Pending)
	want(t, "attempts and claims", got.Attempts+got.Claims, 0)
	want(t, "reason", got.Reason, delivery.ReasonNone)
	want(t, "last status", got.LastStatus, 503)
	want(t, "body", string(got.Body), `{"n": 1}`)
	want(t, "due", got.DueAt, got.UpdatedAt)
	for n, state := range map[int]delivery.State{
		2: delivery.Dead, 3: delivery.Dead, 4: delivery.Pending, 5: delivery.Leased, 6: delivery.Delivered,
	} {
		want(t, fmt.Sprintf("row %d", n), b.get(t, idOf(n)).State, state)
	}
	want(t, "the row without a body", b.get(t, idOf(3)).Reason, delivery.ReasonTooLarge)
	want(t, "token of the leased row", b.get(t, idOf(5)).Token, tokenOf(1))
	want(t, "claimed", len(b.claim(t, 1, 10, time.Hour, tokenOf(3))), 2)
	n, err := b.store.Replay(t.Context(), nil)
	must(t, err)
	want(t, "replayed of none", n, 0)
}

// replayAllDead has more rows than a batch, with one time for most of them, and rows in between that stay.
func replayAllDead(t *testing.T, b *bench) {
	const total = 1203
	var rows []delivery.Insert
	for n := range total {
		row := dead(n, 1)
		switch n % 100 {
		case 7:
			row = bodyless(n, 1)
		case 8:
			row.RuleID = 2
		case 9:
			row.EventType = "org.openedx.other.v1"
		}
		rows = append(rows, row)
	}
	b.insert(t, rows...)
	old := idOf(total - 1)
	b.age(t, "updated_at", time.Hour, "webhook_id = ?", old[:])
	rule := lane(1)
	f := store.Selection{Lane: &rule, EventType: "org.openedx.test.v1", Until: b.soon(t), Since: b.get(t, idOf(0)).CreatedAt.Add(-time.Minute)}
	const bare, chosen = 12, total - 3*12 - 1 // 1200 to 1202 are none of the three; the last is too old
	counted, err := b.store.CountDead(t.Context(), f)
	must(t, err)
	want(t, "bodyless", counted.Bodyless, bare)
	want(t, "examples", len(counted.Examples), 10)
	for _, id := range counted.Examples {
		want(t, "body of an example", len(b.get(t, id).Body), 0)
	}
	want(t, "replayable", counted.Replayable, chosen)
	if _, err := b.store.ReplayDead(t.Context(), store.Selection{Lane: &rule}); err == nil {
		t.Error("a replay without an end was accepted")
	}
	for _, w := range []int{chosen, 0} {
		n, err := b.store.ReplayDead(t.Context(), f)
		must(t, err)
		want(t, "replayed", n, w)
	}
	want(t, "pending", b.count(t, "state = 0 AND attempts = 0 AND claims = 0 AND reason = '' AND due_at IS NOT NULL"), chosen)
	want(t, "old row", b.get(t, old).State, delivery.Dead)
	want(t, "dead", b.count(t, "state = 3"), total-chosen)
	counted, err = b.store.CountDead(t.Context(), f)
	must(t, err)
	want(t, "replayable then", counted.Replayable, 0)
}

// replayBesidePrune lets both go for the same rows: each row is either replayed or gone, and the counts say so.
func replayBesidePrune(t *testing.T, b *bench) {
	const total = 300
	var rows []delivery.Insert
	var numbers []int
	for n := range total {
		rows = append(rows, dead(n, 1))
		numbers = append(numbers, n)
	}
	b.insert(t, rows...)
	b.age(t, "updated_at", time.Hour, "TRUE")
	ids := b.rowIDs(t, numbers...)
	var wg sync.WaitGroup
	var pruned, replayed int
	wg.Go(func() {
		for {
			n, err := b.store.PruneEnded(t.Context(), delivery.Dead, time.Minute, 7)
			if err != nil {
				t.Errorf("PruneEnded: %v", err)
				return
			}
			if pruned += n; n < 7 {
				return
			}
		}
	})
	wg.Go(func() {
		for len(ids) > 0 {
			n, err := b.store.Replay(t.Context(), ids[len(ids)-10:])
			if err != nil {
				t.Errorf("Replay: %v", err)
				return
			}
			replayed += n
			ids = ids[:len(ids)-10]
		}
	})
	wg.Wait()
	// The pruner skips what a replay holds at that moment, and such a row is replayed.
	want(t, "pruned and replayed", pruned+replayed, total)
	want(t, "pending", b.count(t, "state = 0"), replayed)
	want(t, "rows", b.count(t, "TRUE"), replayed)
	if !b.target.Real {
		return
	}
	replayWaits(t, b)
}

// replayWaits replays a row that a transaction under way is about to delete: it waits and then leaves it.
func replayWaits(t *testing.T, b *bench) {
	b.insert(t, dead(1000, 9))
	row := b.rowIDs(t, 1000)[0]
	tx, err := b.admin.BeginTx(t.Context(), nil)
	must(t, err)
	_, err = tx.ExecContext(t.Context(), "DELETE FROM webhook_dispatcher_delivery WHERE id = ?", row)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done := make(chan int)
	go func() {
		n, err := b.store.Replay(ctx, []uint64{row})
		if err != nil {
			t.Errorf("Replay: %v", err)
		}
		done <- n
	}()
	must(t, tx.Commit())
	want(t, "replayed of a row that is gone", <-done, 0)
	want(t, "rows of that rule", b.count(t, "rule_id = 9"), 0)
}
