package store_test

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// webhooks reads the rows of the plugin's webhook table.
func webhooks(t *testing.T, s *store.Store) ([]rule.Row, error) {
	t.Helper()
	table, err := s.Rules(t.Context())
	return table.Webhooks, err
}

// ruleOptions reads the options of rules.
func ruleOptions(t *testing.T, s *store.Store) ([]rule.Option, error) {
	t.Helper()
	table, err := s.Rules(t.Context())
	return table.Options, err
}

// addRule makes a rule and returns its lane and when it was made.
func (b *bench) addRule(t *testing.T, url string) (rule.Key, time.Time) {
	t.Helper()
	id, err := b.add(t.Context(), b.rules, rule.Row{Event: "E", URL: url, Enabled: true}, nil)
	must(t, err)
	return b.key(id), one[time.Time](t, b.admin, "SELECT created FROM "+b.table()+" WHERE id = ?", id)
}

// option returns the option of a lane's rule.
func (b *bench) option(t *testing.T, l rule.Key) rule.Option {
	t.Helper()
	options, err := ruleOptions(t, b.store)
	must(t, err)
	for _, o := range options {
		if o.Key == l {
			return o
		}
	}
	t.Fatalf("rule %d has no option", l.ID)
	return rule.Option{}
}

func (b *bench) pause(t *testing.T, s *store.Store, l rule.Key, reason delivery.Reason, paused bool) {
	t.Helper()
	got, err := s.PauseRule(t.Context(), l.Lane(), reason)
	must(t, err)
	want(t, "paused", got, paused)
}

func (b *bench) resume(t *testing.T, s *store.Store, l rule.Key, resumed bool) {
	t.Helper()
	got, err := s.ResumeRule(t.Context(), l)
	must(t, err)
	want(t, "resumed", got, resumed)
}

func pauseRule(t *testing.T, b *bench) {
	options, err := ruleOptions(t, b.store)
	must(t, err)
	want(t, "options of an empty table", len(options), 0)
	l, created := b.addRule(t, "https://example.org/é")
	b.resume(t, b.rules, l, false)
	before := one[time.Time](t, b.admin, "SELECT UTC_TIMESTAMP(3)").Truncate(time.Millisecond) // the embedded database's is finer
	b.pause(t, b.store, l, delivery.ReasonGone, true)
	b.pause(t, b.store, l, delivery.ReasonFailing, false)
	after := one[time.Time](t, b.admin, "SELECT UTC_TIMESTAMP(3)")
	o := b.option(t, l)
	want(t, "rule created", o.RuleCreated, created)
	if o.PausedAt.Before(before) || o.PausedAt.After(after) {
		t.Errorf("paused at %s, want between %s and %s", o.PausedAt, before, after)
	}
	b.measure(t, 0, true) // which drops the records of keys that there is nothing to say of
	want(t, "reason", b.record(t, l.Lane()).PauseReason, delivery.ReasonGone)
	sum := sha256.Sum256([]byte("https://example.org/é"))
	for query, value := range map[string]string{
		"options": "{}", "enabled": "1", "key_id": "", "HEX(url_sha256)": strings.ToUpper(hex.EncodeToString(sum[:])),
		"COALESCE(secrets, 'none')": "none", "COALESCE(adopted_at, 'none')": "none",
	} {
		want(t, query, one[string](t, b.admin, "SELECT "+query+" FROM webhook_dispatcher_rule_option"), value)
	}
	must(t, b.store.MarkFailing(t.Context(), l.Lane(), time.Hour))
	b.resume(t, b.rules, l, true)
	b.resume(t, b.rules, l, false)
	want(t, "paused at, once resumed", b.option(t, l).PausedAt, time.Time{})
	want(t, "reason of the option, once resumed", b.option(t, l).PauseReason, delivery.ReasonNone)
	r := b.record(t, l.Lane())
	want(t, "failing, once resumed", r.Failing, false)
	want(t, "reason, once resumed", r.PauseReason, delivery.ReasonNone)
	b.pause(t, b.store, l, delivery.ReasonFailing, true)
	want(t, "reason of the second pause", b.record(t, l.Lane()).PauseReason, delivery.ReasonFailing)
	want(t, "reason of the option", b.option(t, l).PauseReason, delivery.ReasonFailing)

	gone := b.key(l.ID + 1)
	b.pause(t, b.store, gone, delivery.ReasonFailing, false)
	b.resume(t, b.store, gone, false)
	want(t, "options", one[int](t, b.admin, "SELECT COUNT(*) FROM webhook_dispatcher_rule_option"), 1)
	if _, err := b.store.PauseRule(t.Context(), delivery.Lane{Kind: delivery.KindInbox, RuleID: l.ID}, delivery.ReasonGone); err == nil {
		t.Error("a lane without a rule was paused")
	}
}

// pauseKeepsOptions: the row belongs to others, too, unless it is of an earlier rule.
func pauseKeepsOptions(t *testing.T, b *bench) {
	l, created := b.addRule(t, "u")
	insert := `INSERT INTO webhook_dispatcher_rule_option
  (kind, rule_id, enabled, adopted_at, paused_at, rule_created, url_sha256, options, secrets, key_id, version, updated_at)
  VALUES (?, ?, 0, ?, ?, ?, ?, '{"a": 1}', 'sealed', 'k1', 7, '2024-01-01 00:00:00')`
	hash := strings.Repeat("h", 32)
	mustExec(t, b.admin, insert, b.kind, l.ID, created, nil, created, hash)
	kept := func() string {
		return one[string](t, b.admin, `SELECT CONCAT_WS('|', options, secrets, key_id, enabled, adopted_at IS NULL, url_sha256 = ?, version)
  FROM webhook_dispatcher_rule_option WHERE rule_id = ?`, hash, l.ID)
	}
	b.pause(t, b.store, l, delivery.ReasonFailing, true)
	want(t, "the row of the same rule, paused", kept(), `{"a": 1}|sealed|k1|0|0|1|8`)
	b.resume(t, b.rules, l, true)
	want(t, "the row of the same rule, resumed", kept(), `{"a": 1}|sealed|k1|0|0|1|9`)
	want(t, "the row's time", one[int](t, b.admin, "SELECT updated_at > '2024-01-02' FROM webhook_dispatcher_rule_option"), 1)

	// The rule's id was used before. That pause is none of this rule's, and neither are the options.
	mustExec(t, b.admin, "DELETE FROM webhook_dispatcher_rule_option")
	mustExec(t, b.admin, insert, b.kind, l.ID, created, created, created.Add(-time.Microsecond), hash)
	b.resume(t, b.rules, l, false)
	want(t, "the row of an earlier rule, resumed", kept(), `{"a": 1}|sealed|k1|0|0|1|7`)
	b.pause(t, b.store, l, delivery.ReasonFailing, true)
	want(t, "the row of an earlier rule, paused", kept(), `{}||1|1|0|8`)
	want(t, "its rule", b.option(t, l).RuleCreated, created)
}

// pauseAtOnce: of many that pause a rule together, one does.
func pauseAtOnce(t *testing.T, b *bench) {
	l, _ := b.addRule(t, "u")
	stores := [...]*store.Store{b.store, openStore(t, b.serveDSN, nil)}
	var paused, resumed atomic.Int32
	for range 3 {
		var wg sync.WaitGroup
		for n := range 8 {
			wg.Go(func() {
				ok, err := stores[n%2].PauseRule(t.Context(), l.Lane(), delivery.ReasonFailing)
				if err != nil {
					t.Errorf("PauseRule: %v", err)
				}
				if ok {
					paused.Add(1)
				}
			})
		}
		wg.Wait()
		for n := range 8 {
			wg.Go(func() {
				ok, err := stores[n%2].ResumeRule(t.Context(), l)
				if err != nil {
					t.Errorf("ResumeRule: %v", err)
				}
				if ok {
					resumed.Add(1)
				}
			})
		}
		wg.Wait()
	}
	want(t, "pauses", paused.Load(), 3)
	want(t, "resumptions", resumed.Load(), 3)
}
