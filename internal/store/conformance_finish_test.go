package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

func finishTransitions(t *testing.T, b *bench) {
	b.insert(t, pendings(0, 5)...)
	want(t, "claimed", len(b.claim(t, 1, 10, time.Hour, tokenOf(1))), 5)
	result := func(n int, state delivery.State, delay time.Duration, reason delivery.Reason, status int) delivery.Update {
		return delivery.Update{
			ID: idOf(n), Token: tokenOf(1), State: state, Delay: delay, Attempts: n + 1, Claims: 7, Reason: reason, LastStatus: status,
		}
	}
	lost, err := b.store.Finish(t.Context(), []delivery.Update{
		result(0, delivery.Delivered, 0, delivery.ReasonNone, 204),
		result(1, delivery.Pending, 5*time.Minute, delivery.ReasonStatus, 500),
		result(2, delivery.Dead, 0, delivery.ReasonExhausted, 502),
		result(3, delivery.Halted, 0, delivery.ReasonNone, 0),
		result(4, delivery.Pending, 0, delivery.ReasonRetryAfter, 429),
	})
	must(t, err)
	want(t, "lost", len(lost), 0)
	for n, w := range []struct {
		state  delivery.State
		reason delivery.Reason
		status int
		body   string
		delay  time.Duration
	}{
		{delivery.Delivered, "", 204, "", 0},
		{delivery.Pending, "http_status", 500, `{"n": 1}`, 5 * time.Minute},
		{delivery.Dead, "exhausted", 502, `{"n": 2}`, 0},
		{delivery.Halted, "", 0, `{"n": 3}`, 0},
		{delivery.Pending, "retry_after", 429, `{"n": 4}`, 0},
	} {
		got := b.get(t, idOf(n))
		what := fmt.Sprintf("row %d: ", n)
		want(t, what+"state", got.State, w.state)
		want(t, what+"reason", got.Reason, w.reason)
		want(t, what+"status", got.LastStatus, w.status)
		want(t, what+"body", string(got.Body), w.body)
		want(t, what+"token", got.Token, delivery.Token{})
		want(t, what+"attempts", got.Attempts, n+1)
		want(t, what+"claims", got.Claims, 7)
		want(t, what+"has a due time", !got.DueAt.IsZero(), w.state == delivery.Pending)
		if w.state == delivery.Pending {
			want(t, what+"delay", got.DueAt.Sub(got.UpdatedAt), w.delay)
		}
	}
	want(t, "size of the delivered body", b.count(t, "state = 2 AND body_size = 0"), 1)
	want(t, "claimed again", len(b.claim(t, 1, 10, time.Hour, tokenOf(2))), 1)
	for _, state := range []delivery.State{delivery.Leased, delivery.State(9)} {
		if _, err := b.store.Finish(t.Context(), []delivery.Update{{ID: idOf(4), Token: tokenOf(2), State: state}}); err == nil {
			t.Errorf("a lease ended as %s", state)
		}
	}
}

// finishHalted: a row of each format keeps it through claim and end. One whose filter leaves it out keeps its body, like a dead one, waits
// for nothing, is not replayed with the dead, and goes in the end.
func finishHalted(t *testing.T, b *bench) {
	formats := []delivery.Format{delivery.FormatJSON, delivery.FormatForm, delivery.FormatEvent, delivery.FormatCloudEvents}
	rows := pendings(0, len(formats))
	for n, f := range formats {
		rows[n].Format = f
	}
	b.insert(t, rows...)
	var updates []delivery.Update
	for _, row := range b.claim(t, 1, 10, time.Hour, tokenOf(1)) {
		want(t, "format, claimed", row.Format, b.get(t, row.ID).Format)
		updates = append(updates, delivery.Update{
			ID: row.ID, Token: tokenOf(1), State: delivery.Halted, Claims: row.Claims, Reason: delivery.ReasonFiltered,
		})
	}
	lost, err := b.store.Finish(t.Context(), updates)
	must(t, err)
	want(t, "lost", len(lost), 0)
	for n, f := range formats {
		got := b.get(t, idOf(n))
		want(t, "row", fmt.Sprint(got.State, got.Reason, got.Format, string(got.Body), got.DueAt.IsZero()),
			fmt.Sprint(delivery.Halted, delivery.ReasonFiltered, f, string(rows[n].Body), true))
		short, _, err := b.store.Summary(t.Context(), idOf(n))
		must(t, err)
		want(t, "format, listed", short.Format, f)
	}
	due, err := b.store.DueLanes(t.Context())
	must(t, err)
	want(t, "lanes with work", len(due), 0)
	replayed, err := b.store.ReplayDead(t.Context(), store.Selection{Until: b.soon(t)})
	must(t, err)
	want(t, "replayed", replayed, 0)
	b.age(t, "updated_at", 25*time.Hour, "1 = 1")
	pruned, err := b.store.PruneEnded(t.Context(), delivery.Halted, 24*time.Hour, 10)
	must(t, err)
	want(t, "pruned", pruned, len(formats))
}

// finishFenced writes results that no longer fit, between two that do.
func finishFenced(t *testing.T, b *bench) {
	b.insert(t, pendings(0, 4)...)
	b.claim(t, 1, 10, time.Hour, tokenOf(1))
	update := func(n, token int) delivery.Update {
		return delivery.Update{ID: idOf(n), Token: tokenOf(token), State: delivery.Delivered, Attempts: 1}
	}
	lost, err := b.store.Finish(t.Context(), []delivery.Update{
		update(0, 1),
		update(1, 2),                           // another's lease
		update(99, 1),                          // no such row
		{ID: idOf(2), State: delivery.Pending}, // no lease at all
		update(3, 1), update(3, 1),             // the same twice
	})
	must(t, err)
	want(t, "lost", fmt.Sprint(lost), fmt.Sprint([]delivery.ID{idOf(1), idOf(99), idOf(2), idOf(3)}))
	for n, state := range []delivery.State{delivery.Delivered, delivery.Leased, delivery.Leased, delivery.Delivered} {
		want(t, fmt.Sprintf("state of row %d", n), b.get(t, idOf(n)).State, state)
	}
	// An ended row stays as it is, whatever token comes.
	lost, err = b.store.Finish(t.Context(), []delivery.Update{update(0, 1), {ID: idOf(3), State: delivery.Pending}})
	must(t, err)
	want(t, "lost of ended rows", len(lost), 2)
	want(t, "state of the ended row", b.get(t, idOf(0)).State, delivery.Delivered)
}

func finishMany(t *testing.T, b *bench) {
	total := 1200
	if !b.target.Real {
		total = 300
	}
	b.insert(t, pendings(0, total)...)
	var updates []delivery.Update
	for n := 1; ; n++ {
		rows := b.claim(t, 1, 3*total/8, time.Hour, tokenOf(n))
		if len(rows) == 0 {
			break
		}
		for _, row := range rows {
			u := delivery.Update{ID: row.ID, Token: tokenOf(n), State: delivery.Delivered, Attempts: 1, Claims: row.Claims, LastStatus: 200}
			if len(updates)%3 == 0 {
				u.State, u.Delay, u.LastStatus = delivery.Pending, time.Duration(len(updates)+1)*time.Second, 500
			}
			updates = append(updates, u)
		}
	}
	want(t, "claimed", len(updates), total)
	lost, err := b.store.Finish(t.Context(), updates)
	must(t, err)
	want(t, "lost", len(lost), 0)
	want(t, "delivered", b.count(t, "state = 2"), total/3*2)
	for i := 0; i < total; i += 99 * 3 {
		got := b.get(t, updates[i].ID)
		want(t, "delay", got.DueAt.Sub(got.UpdatedAt), updates[i].Delay)
	}
}
