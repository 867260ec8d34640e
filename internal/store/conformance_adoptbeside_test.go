package store_test

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// adoptBeside: adopting, releasing, pausing and changing at the same moment. Each is whole, and none is lost.
func adoptBeside(t *testing.T, b *bench) {
	stores := [...]*store.Store{b.rules, openStore(t, b.rulesDSN, nil)}
	var keys []rule.Key
	for range 3 {
		l, _ := b.addRule(t, "u")
		keys = append(keys, l)
	}
	back := []rule.Key{keys[2], keys[1], keys[0]}
	const rounds = 4
	var adopted, released, paused, resumed atomic.Int32
	count := func(n *atomic.Int32) func([]store.Switched, error) {
		return func(done []store.Switched, err error) {
			if err != nil || len(done) != len(keys) {
				t.Errorf("%d rules were switched, %v", len(done), err)
			}
			for _, s := range done {
				if s.Changed {
					n.Add(1)
				}
			}
		}
	}
	flip := func(n *atomic.Int32, ok bool, err error) {
		if err != nil {
			t.Error(err)
		}
		if ok {
			n.Add(1)
		}
	}
	beside := func(wg *sync.WaitGroup) { // what goes on all the time
		if b.target.Real { // the embedded database has no snapshots
			wg.Go(func() { notTorn(t, b.store) })
		}
		for n := range 4 {
			l, s := keys[n%len(keys)], stores[n%2]
			wg.Go(func() {
				ok, err := b.store.PauseRule(t.Context(), l.Lane(), delivery.ReasonGone)
				flip(&paused, ok, err)
				ok, err = s.ResumeRule(t.Context(), l)
				flip(&resumed, ok, err)
			})
			wg.Go(func() {
				_, err := s.ChangeOption(t.Context(), keys[0], func(row rule.Row, o *rule.Option) error {
					if row.Enabled == o.Adopted() {
						t.Errorf("row enabled: %v, adopted: %v", row.Enabled, o.Adopted())
					}
					count, _ := strconv.Atoi(o.KeyID)
					o.Sealed, o.KeyID = "s", strconv.Itoa(count+1)
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
	for range rounds {
		var wg sync.WaitGroup
		for n := range 4 {
			order := [...][]rule.Key{keys, back}[n%2]
			wg.Go(func() { count(&adopted)(stores[n%2].Adopt(t.Context(), order, nil)) })
		}
		beside(&wg)
		wg.Wait()
		for n := range 4 {
			order := [...][]rule.Key{keys, back}[n/2]
			wg.Go(func() { count(&released)(stores[n%2].Release(t.Context(), order)) })
		}
		beside(&wg)
		wg.Wait()
	}
	want(t, "adopted", int(adopted.Load()), rounds*len(keys))
	want(t, "released", int(released.Load()), rounds*len(keys))
	want(t, "pauses that were ended", resumed.Load(), paused.Load())
	want(t, "changes kept", b.option(t, keys[0]).KeyID, strconv.Itoa(2*rounds*4))
	for _, l := range keys {
		want(t, "windows", len(b.earlier(t, l)), rounds-1)
		want(t, "enabled for the plugin", b.row(t, l).Enabled, true)
	}
}

// notTorn reads rules while they are switched over: none may be seen with its row as it was before and its option as it was after.
func notTorn(t *testing.T, s *store.Store) {
	for range 100 {
		table, err := s.Rules(t.Context())
		if err != nil {
			t.Error(err)
			return
		}
		for _, row := range table.Webhooks {
			for _, o := range table.Options {
				if o.Key.ID == row.ID && !o.AdoptedAt.IsZero() && row.Enabled == o.Adopted() {
					t.Errorf("rule %d was read with enabled %v and adopted %v", row.ID, row.Enabled, o.Adopted())
				}
			}
		}
	}
}

// adoptBesideDjango: Django has changed the row and not committed it yet. What it commits is what counts.
func adoptBesideDjango(t *testing.T, b *bench) {
	l, _ := b.addRule(t, "u")
	for _, c := range []struct {
		enabled bool
		do      func() (store.Switched, error)
		result  string
	}{
		{false, func() (store.Switched, error) { return sole(b.rules.Adopt(t.Context(), []rule.Key{l}, nil)) }, "adopted, off"},
		{true, func() (store.Switched, error) { return sole(b.rules.Release(t.Context(), []rule.Key{l})) }, "the plugin's, on"},
		{false, func() (store.Switched, error) { return b.rules.SetEnabled(t.Context(), l, true) }, "the plugin's, on"},
	} {
		tx, err := b.admin.BeginTx(t.Context(), nil)
		must(t, err)
		_, err = tx.ExecContext(t.Context(), "UPDATE "+b.table()+`
  SET enabled = ?, webhook_url = ?, modified = UTC_TIMESTAMP(6) WHERE id = ?`, c.enabled, c.result, l.ID)
		must(t, err)
		var got store.Switched
		done := make(chan error, 1)
		go func() {
			var err error
			got, err = c.do()
			done <- err
		}()
		b.awaitLockWait(t)
		must(t, tx.Commit())
		must(t, <-done)
		want(t, "result", shown(got), c.result)
		want(t, "URL", b.row(t, l).URL, c.result)
	}
}

func sole(switched []store.Switched, err error) (store.Switched, error) {
	if err != nil || len(switched) != 1 {
		return store.Switched{}, fmt.Errorf("%d results, want 1: %w", len(switched), err)
	}
	return switched[0], nil
}
