package store_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// age moves the times of rows into the past, so that no test waits for a clock.
func (b *bench) age(t *testing.T, column string, by time.Duration, where string, args ...any) {
	t.Helper()
	mustExec(t, b.admin, fmt.Sprintf("UPDATE webhook_dispatcher_delivery SET %s = %s - INTERVAL %d MICROSECOND WHERE %s",
		column, column, by.Microseconds(), where), args...)
}

func claimOrder(t *testing.T, b *bench) {
	rows := pendings(0, 10)
	for i := range rows {
		rows[i].Delay = -time.Duration(i) * time.Minute // the last is due the longest
	}
	rows[9].Delay = time.Hour
	b.insert(t, append(rows, pending(50, 2))...)
	got := b.claim(t, 1, 3, time.Hour, tokenOf(1))
	ids := make(map[delivery.ID]bool)
	for _, row := range got {
		ids[row.ID] = true
		want(t, "state", row.State, delivery.Leased)
		want(t, "token", row.Token, tokenOf(1))
		want(t, "claims", row.Claims, 1)
		want(t, "body", string(row.Body), fmt.Sprintf(`{"n": %d}`, row.ID[15]))
		want(t, "lease", row.DueAt.Sub(row.UpdatedAt), time.Hour)
	}
	want(t, "claimed", len(got), 3)
	for n := 6; n <= 8; n++ {
		want(t, fmt.Sprintf("row %d claimed", n), ids[idOf(n)], true)
	}
	want(t, "claimed next", len(b.claim(t, 1, 100, time.Hour, tokenOf(2))), 6)
	want(t, "claimed then", len(b.claim(t, 1, 100, time.Hour, tokenOf(3))), 0)
	want(t, "claimed of the other rule", len(b.claim(t, 2, 100, time.Hour, tokenOf(4))), 1)
	if _, err := b.store.Claim(t.Context(), lane(1), 1, time.Hour, delivery.Token{}); err == nil {
		t.Error("a claim without a token was accepted")
	}
}

// A claim whose answer was lost is known by its token alone.
func claimGivenBack(t *testing.T, b *bench) {
	b.insert(t, append(pendings(0, 6), pending(50, 2))...)
	b.claim(t, 1, 2, time.Minute, tokenOf(1))
	b.claim(t, 1, 1, time.Minute, tokenOf(2))
	b.claim(t, 2, 1, time.Minute, tokenOf(1)) // no such thing happens, but it is another lane's
	giveBack := func(token delivery.Token) int {
		t.Helper()
		n, err := b.store.GiveBack(t.Context(), lane(1), time.Minute, token)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	want(t, "given back by nobody", giveBack(tokenOf(9)), 0)
	want(t, "given back", giveBack(tokenOf(1)), 2)
	want(t, "given back again", giveBack(tokenOf(1)), 0)
	got := b.claim(t, 1, 100, time.Minute, tokenOf(3))
	want(t, "claimed then", len(got), 5) // all but the second claim's
	for _, row := range got {
		want(t, "claims", row.Claims, 1)
	}
}

func claimRunOut(t *testing.T, b *bench) {
	b.insert(t, pending(1, 1))
	want(t, "claimed", len(b.claim(t, 1, 1, time.Minute, tokenOf(1))), 1)
	want(t, "claimed while the lease holds", len(b.claim(t, 1, 1, time.Minute, tokenOf(2))), 0)
	b.age(t, "due_at", time.Minute, "rule_id = 1")
	again := b.claim(t, 1, 1, time.Minute, tokenOf(3))
	want(t, "claimed after it", len(again), 1)
	want(t, "claims", again[0].Claims, 2)
	want(t, "attempts", again[0].Attempts, 0)
	// The first holder comes back: too late.
	lost, err := b.store.Finish(t.Context(), []delivery.Update{{ID: idOf(1), Token: tokenOf(1), State: delivery.Delivered}})
	must(t, err)
	want(t, "lost", len(lost), 1)
	want(t, "state", b.get(t, idOf(1)).State, delivery.Leased)
	mustExec(t, b.admin, "UPDATE webhook_dispatcher_delivery SET claims = 65535, due_at = created_at")
	want(t, "claims at the column's end", b.claim(t, 1, 1, time.Minute, tokenOf(4))[0].Claims, 65535)
}

// claimBytes: what a claim returns is in memory as a whole.
func claimBytes(t *testing.T, b *bench) {
	big := pendings(0, 4)
	for i := range big {
		big[i].Body = bytes.Repeat([]byte("x"), 3<<20)
		big[i].Delay = -time.Duration(10-i) * time.Second
	}
	for _, row := range big { // one by one: the statement has a limit of its own
		b.insert(t, row)
	}
	first := b.claim(t, 1, 10, time.Minute, tokenOf(1))
	want(t, "claimed", len(first), 2)
	want(t, "the first", first[0].ID, idOf(0))
	want(t, "leased", b.count(t, "state = 1"), 2)
	want(t, "claimed next", len(b.claim(t, 1, 10, time.Minute, tokenOf(2))), 2)
	mustExec(t, b.admin, "UPDATE webhook_dispatcher_delivery SET body_size = 100000000, due_at = created_at")
	want(t, "of rows that are larger than a claim", len(b.claim(t, 1, 10, time.Minute, tokenOf(3))), 1)
}

// claimCutShort: a claim that was made and cannot be read is given back, and counts for nothing.
func claimCutShort(t *testing.T, b *bench) {
	b.insert(t, pendings(0, 2)...)
	mustExec(t, b.admin, "ALTER TABLE webhook_dispatcher_delivery RENAME COLUMN traceparent TO elsewhere")
	if _, err := b.store.Claim(t.Context(), lane(1), 10, time.Minute, tokenOf(1)); err == nil {
		t.Fatal("rows were claimed that cannot be read")
	}
	mustExec(t, b.admin, "ALTER TABLE webhook_dispatcher_delivery RENAME COLUMN elsewhere TO traceparent")
	want(t, "pending", b.count(t, "state = 0 AND claims = 0 AND lease_token IS NULL"), 2)
	again := b.claim(t, 1, 10, time.Minute, tokenOf(2))
	want(t, "claimed again at once", len(again), 2)
	want(t, "claims", again[0].Claims, 1)
}

// claimDisjoint lets two processes with several claimers each empty a lane while others insert into it.
func claimDisjoint(t *testing.T, b *bench) {
	total := 600
	if !b.target.Real {
		total = 150
	}
	b.insert(t, pendings(0, total)...)
	stores := [...]*store.Store{b.store, openStore(t, b.serveDSN, nil)}
	var mu sync.Mutex
	owner := make(map[delivery.ID]delivery.Token)
	var wg sync.WaitGroup
	for n := range 6 {
		wg.Go(func() {
			for {
				token := delivery.Token(randomBytes())
				rows, err := stores[n%len(stores)].Claim(t.Context(), lane(1), 1+n*7, time.Hour, token)
				if err != nil {
					t.Errorf("Claim: %v", err)
					return
				}
				mu.Lock()
				for _, row := range rows {
					if _, taken := owner[row.ID]; taken {
						t.Errorf("%s was claimed twice", row.ID)
					}
					owner[row.ID] = token
				}
				left := total - len(owner)
				mu.Unlock()
				if left <= 0 || (len(rows) == 0 && b.store.Ping(t.Context()) != nil) {
					return
				}
			}
		})
	}
	wg.Go(func() { // the other direction: inserts are not held up by claims
		for n := range 20 {
			if err := stores[1].Insert(t.Context(), []delivery.Insert{pending(total+n, 2)}); err != nil {
				t.Errorf("Insert: %v", err)
			}
		}
	})
	wg.Wait()
	want(t, "claimed", len(owner), total)
	for id, token := range owner {
		if got := b.get(t, id); got.Token != token || got.Claims != 1 {
			t.Errorf("%s: token %x after %d claims, want %x after 1", id, got.Token, got.Claims, token)
		}
	}
}

func randomBytes() (b [16]byte) {
	for i := range b {
		b[i] = byte(1 + rand.IntN(255))
	}
	return b
}

// claimSkipsLocked claims while another transaction holds a row: neither waits.
func claimSkipsLocked(t *testing.T, b *bench) {
	b.insert(t, pendings(0, 3)...)
	tx, err := b.admin.BeginTx(t.Context(), nil)
	must(t, err)
	defer func() { must(t, tx.Rollback()) }()
	id := idOf(1)
	_, err = tx.ExecContext(t.Context(), "UPDATE webhook_dispatcher_delivery SET claims = claims WHERE webhook_id = ?", id[:])
	must(t, err)
	var locked int
	lock := tx.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM webhook_dispatcher_delivery WHERE webhook_id = ? FOR UPDATE", id[:])
	must(t, lock.Scan(&locked))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	rows, err := b.store.Claim(ctx, lane(1), 10, time.Hour, tokenOf(1))
	must(t, err)
	want(t, "claimed", len(rows), 2)
	killed, err := b.store.KillLane(ctx, lane(1), delivery.ReasonRuleDeleted, 10)
	must(t, err)
	want(t, "killed", killed, 0)
}

func dueLanes(t *testing.T, b *bench) {
	lanes, err := b.store.DueLanes(t.Context())
	must(t, err)
	want(t, "lanes of an empty queue", len(lanes), 0)
	later, dead := pending(2, 2), pending(3, 3)
	later.Delay, dead.State = time.Hour, delivery.Dead
	filtered := pending(4, 1)
	filtered.Kind = delivery.KindEvent
	filtered.Delay = -time.Hour
	second := pending(5, 1)
	second.Delay = time.Minute
	b.insert(t, pending(1, 1), later, dead, filtered, second, pending(6, 4))
	b.claim(t, 4, 1, 30*time.Minute, tokenOf(1))
	lanes, err = b.store.DueLanes(t.Context())
	must(t, err)
	var got []delivery.Lane
	for _, l := range lanes {
		got = append(got, l.Lane)
	}
	want(t, "lanes", fmt.Sprint(got), fmt.Sprint([]delivery.Lane{{Kind: 2, RuleID: 1}, lane(1), lane(4), lane(2)}))
	waits := [...]struct{ least, most time.Duration }{
		{-2 * time.Hour, -time.Hour}, {-time.Minute, 0}, {29 * time.Minute, 30 * time.Minute}, {59 * time.Minute, time.Hour},
	}
	for i, l := range lanes {
		if l.Wait < waits[i].least || l.Wait > waits[i].most {
			t.Errorf("lane %v: wait %s, want %s to %s", l.Lane, l.Wait, waits[i].least, waits[i].most)
		}
	}
}

func killLane(t *testing.T, b *bench) {
	b.insert(t, pendings(0, 6)...)
	b.insert(t, pending(10, 2))
	b.claim(t, 1, 2, time.Hour, tokenOf(1)) // one stays leased, the other's lease runs out
	mustExec(t, b.admin, "UPDATE webhook_dispatcher_delivery SET due_at = created_at WHERE state = 1 ORDER BY id LIMIT 1")
	for _, n := range []int{3, 2, 0} {
		killed, err := b.store.KillLane(t.Context(), lane(1), delivery.ReasonRuleDeleted, 3)
		must(t, err)
		want(t, "killed", killed, n)
	}
	want(t, "dead", b.count(t, "state = 3 AND reason = 'rule_deleted' AND due_at IS NULL AND lease_token IS NULL"), 5)
	want(t, "leased", b.count(t, "state = 1 AND rule_id = 1"), 1)
	want(t, "of the other rule", b.count(t, "state = 0 AND rule_id = 2"), 1)
	want(t, "bodies kept", b.count(t, "state = 3 AND body <> ''"), 5)
}
