package store_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// change changes the option of a lane's rule and says whether that must have been anything new.
func (b *bench) change(t *testing.T, l rule.Key, changed bool, do func(*rule.Option)) {
	t.Helper()
	got, err := b.rules.ChangeOption(t.Context(), l, func(_ rule.Row, o *rule.Option) error {
		do(o)
		return nil
	})
	must(t, err)
	want(t, "changed", got, changed)
}

func (b *bench) options(t *testing.T) int {
	t.Helper()
	return one[int](t, b.admin, "SELECT COUNT(*) FROM webhook_dispatcher_rule_option")
}

func noRule(t *testing.T, err error, l rule.Key) {
	t.Helper()
	var missing *store.NoRuleError
	if !errors.As(err, &missing) || missing.Key != l {
		t.Errorf("got %v, want that rule %d is not there", err, l.ID)
	}
	says(t, "a rule that is not there", err, fmt.Sprintf("there is no %s rule %d", l.Table, l.ID))
}

// changeOption sets all that an option has, and finds it again.
func changeOption(t *testing.T, b *bench) {
	l, created := b.addRule(t, "https://h/1")
	gone := b.key(l.ID + 1)
	_, err := b.rules.ChangeOption(t.Context(), gone, func(rule.Row, *rule.Option) error {
		t.Error("change was called for a rule that is not there")
		return nil
	})
	noRule(t, err, gone)
	if _, err := b.rules.ChangeOption(t.Context(), rule.Key{Table: rule.Table(delivery.KindInbox), ID: 1}, nil); err == nil {
		t.Error("a lane without a rule has an option")
	}
	fresh := rule.Option{
		Key: l, RuleCreated: created, Enabled: true, URLSum: rule.URLSum("https://h/1"),
	}
	b.change(t, l, false, func(o *rule.Option) { want(t, "a new option", *o, fresh) })
	b.change(t, l, false, func(o *rule.Option) { o.Document, o.KeyID = "{}", "k1" }) // a key without secrets is none
	want(t, "options, nothing changed", b.options(t), 0)

	at := time.Date(2026, 3, 4, 5, 6, 7, 123_456_789, time.FixedZone("", 3600))
	before := one[time.Time](t, b.admin, "SELECT UTC_TIMESTAMP(6)")
	b.change(t, l, true, func(o *rule.Option) {
		*o = rule.Option{
			AdoptedAt: at, ReleasedAt: at.Add(time.Hour), PausedAt: at.Add(2 * time.Hour), Document: `{"filter":"'\"%?é\\"}`,
			Sealed: "\x00'\xff", KeyID: "k1", Version: 99,
		}
	})
	utc := at.UTC()
	full := rule.Option{
		Key: l, RuleCreated: created, AdoptedAt: utc.Truncate(time.Microsecond),
		ReleasedAt: utc.Add(time.Hour).Truncate(time.Microsecond), PausedAt: utc.Add(2 * time.Hour).Truncate(time.Millisecond),
		URLSum: rule.URLSum("https://h/1"), Document: `{"filter":"'\"%?é\\"}`, Sealed: "\x00'\xff", KeyID: "k1", Version: 1,
	}
	want(t, "the option", b.option(t, l), full)
	updated := func() time.Time {
		return one[time.Time](t, b.admin, "SELECT updated_at FROM webhook_dispatcher_rule_option")
	}
	if first := updated(); first.Before(before) {
		t.Errorf("updated at %s, want not before %s", first, before)
	}
	b.change(t, l, false, func(o *rule.Option) {
		want(t, "the option, read again", *o, full)
		o.AdoptedAt = at // the column keeps less of it
	})
	refused := errors.New("refused")
	if _, err := b.rules.ChangeOption(t.Context(), l, func(_ rule.Row, o *rule.Option) error {
		o.Document = "{broken"
		return refused
	}); !errors.Is(err, refused) {
		t.Errorf("got %v, want the error of change", err)
	}
	want(t, "the option, not changed", b.option(t, l), full)
	last := updated()
	b.change(t, l, true, func(o *rule.Option) { o.Sealed, o.Document = "", "" })
	full.Document, full.Sealed, full.KeyID, full.Version = "", "", "", 2
	want(t, "the option without document and secrets", b.option(t, l), full)
	want(t, "as earlier versions read it", one[string](t, b.admin,
		"SELECT CONCAT(options, secrets IS NULL, key_id) FROM webhook_dispatcher_rule_option"), "{}1")
	if now := updated(); !now.After(last) {
		t.Errorf("updated at %s, want after %s", now, last)
	}
	_, err = b.rules.ChangeOption(t.Context(), l, func(_ rule.Row, o *rule.Option) error {
		o.Sealed = strings.Repeat("s", 1<<16)
		return nil
	})
	says(t, "too many secrets", err, "65536", "65535")
}

// changeURL: secrets are bound to the URL that the rule has when they come, and to no other without a word.
func changeURL(t *testing.T, b *bench) {
	l, _ := b.addRule(t, "https://h/1")
	move := func(url string) { mustExec(t, b.admin, "UPDATE "+b.table()+" SET webhook_url = ?", url) }
	bound := func(url string) {
		t.Helper()
		want(t, "bound to "+url, b.option(t, l).URLSum, rule.URLSum(url))
	}
	b.change(t, l, true, func(o *rule.Option) { o.Document = `{"filter":"true"}` })
	move("https://h/2")
	b.change(t, l, true, func(o *rule.Option) { o.Sealed, o.KeyID = "a", "k" })
	bound("https://h/2")
	move("https://h/3")
	b.change(t, l, true, func(o *rule.Option) { o.Sealed = "b" })
	b.pause(t, b.store, l, delivery.ReasonGone, true)
	bound("https://h/2")
	if _, err := b.rules.ChangeOption(t.Context(), l, func(row rule.Row, o *rule.Option) error {
		o.URLSum = rule.URLSum(row.URL)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	bound("https://h/3")
}

// earlierRule: an id that is used again does not bring with it what was its former rule's; nor do rows that earlier versions left say more
// than they meant.
func earlierRule(t *testing.T, b *bench) {
	l, created := b.addRule(t, "https://h/1")
	insert := `INSERT INTO webhook_dispatcher_rule_option (kind, rule_id, enabled, adopted_at, released_at, paused_at, rule_created,
  url_sha256, options, secrets, key_id, version, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 7, '2024-01-01 00:00:00')`
	old, hash := created.Add(-time.Hour), strings.Repeat("h", 32)
	mustExec(t, b.admin, insert, b.kind, l.ID, 0, old, old, old, old, hash, `{"filter":"false"}`, "sealed", "k1")
	b.change(t, l, false, func(o *rule.Option) { want(t, "its former rule's", o.Document+o.Sealed+o.KeyID, "") })
	want(t, "kept while nothing changes", b.option(t, l).Document, `{"filter":"false"}`)
	b.change(t, l, true, func(o *rule.Option) { o.Document = `{"shape":"standard"}` })
	want(t, "the option", b.option(t, l), rule.Option{
		Key: l, RuleCreated: created, Enabled: true, URLSum: rule.URLSum("https://h/1"),
		Document: `{"shape":"standard"}`, Version: 8,
	})
	for _, none := range []string{"", "{}"} {
		mustExec(t, b.admin, "DELETE FROM webhook_dispatcher_rule_option")
		mustExec(t, b.admin, insert, b.kind, l.ID, 2, nil, nil, created.Truncate(time.Millisecond), created, hash, none, nil, "")
		o := b.option(t, l)
		want(t, "document", o.Document, "")
		want(t, "enabled", o.Enabled, true)
		want(t, "paused at", o.PausedAt, created.Truncate(time.Millisecond))
	}
}

// changeAtOnce: of changes at the same moment none is lost, also not of those that find no row yet.
func changeAtOnce(t *testing.T, b *bench) {
	stores := [...]*store.Store{b.store, openStore(t, b.serveDSN, nil)}
	const rounds, changers = 3, 8
	for range rounds {
		l, _ := b.addRule(t, "u")
		var wg sync.WaitGroup
		for n := range changers {
			wg.Go(func() {
				changed, err := stores[n%2].ChangeOption(t.Context(), l, func(_ rule.Row, o *rule.Option) error {
					count, _ := strconv.Atoi(o.Document)
					o.Document = strconv.Itoa(count + 1)
					return nil
				})
				if err != nil || !changed {
					t.Errorf("ChangeOption: %v, %v", changed, err)
				}
			})
		}
		wg.Wait()
		o := b.option(t, l)
		want(t, "changes kept", o.Document, strconv.Itoa(changers))
		want(t, "version", o.Version, changers)
	}
}

func addWithOption(t *testing.T, b *bench) {
	row := rule.Row{Event: "E", URL: "https://h/1"}
	refused := errors.New("refused")
	_, err := b.add(t.Context(), b.rules, row, func(int32, time.Time) (*rule.Option, error) { return nil, refused })
	if !errors.Is(err, refused) {
		t.Errorf("got %v, want the option's error", err)
	}
	want(t, "rules, refused", one[int](t, b.admin, "SELECT COUNT(*) FROM "+b.table()), 0)
	first, err := b.add(t.Context(), b.rules, row, func(int32, time.Time) (*rule.Option, error) { return nil, nil })
	must(t, err)
	want(t, "options, none asked for", b.options(t), 0)
	// What an earlier rule of the next id left.
	mustExec(t, b.admin, `INSERT INTO webhook_dispatcher_rule_option (kind, rule_id, paused_at, rule_created, url_sha256, options, updated_at)
  VALUES (?, ?, '2024-01-01', '2024-01-01', '', '{}', '2024-01-01')`, b.kind, first+1)
	var given int32
	var at time.Time
	id, err := b.add(t.Context(), b.rules, row, func(id int32, created time.Time) (*rule.Option, error) {
		given, at = id, created
		return &rule.Option{Key: rule.Key{ID: 99}, AdoptedAt: created, Document: `{"filter":"true"}`, Sealed: "s", KeyID: "k", Version: 99}, nil
	})
	must(t, err)
	want(t, "id that the option was made for", given, id)
	want(t, "id", id, first+1)
	want(t, "the option", b.option(t, b.key(id)), rule.Option{
		Key: b.key(id), RuleCreated: at, AdoptedAt: at, URLSum: rule.URLSum(row.URL), Document: `{"filter":"true"}`,
		Sealed: "s", KeyID: "k", Version: 2,
	})
	want(t, "the row", b.rows(t)[1], rule.Row{ID: id, Created: at, Modified: at, Event: "E", URL: "https://h/1"})
	if b.target.Real {
		mustExec(t, b.admin, fmt.Sprintf("REVOKE INSERT ON %s.webhook_dispatcher_rule_option FROM '%s_rules'@'%%'", b.database, b.database))
		_, err = b.add(t.Context(), openStore(t, b.rulesDSN, nil), row, func(int32, time.Time) (*rule.Option, error) {
			return &rule.Option{Document: `{"filter":"true"}`}, nil
		})
		says(t, "an option that cannot be written", err, "webhook_dispatcher_rule_option", "GRANT")
		want(t, "rules, without the one whose option failed", one[int](t, b.admin, "SELECT COUNT(*) FROM "+b.table()), 2)
	}
}

// reseal: each rule's secrets by themselves, so that one that cannot be opened keeps no other from its turn.
func reseal(t *testing.T, b *bench) {
	var keys []rule.Key
	for n := range 6 {
		l, _ := b.addRule(t, "u")
		keys = append(keys, l)
		b.change(t, l, true, func(o *rule.Option) {
			o.Document = `{"filter":"true"}`
			if n > 0 {
				o.Sealed, o.KeyID = fmt.Sprint("old ", n), "k1"
			}
		})
	}
	mustExec(t, b.admin, "DELETE FROM "+b.table()+" WHERE id = ?", keys[3].ID)
	// another rule by now
	mustExec(t, b.admin, "UPDATE "+b.table()+" SET created = '2024-01-01' WHERE id = ?", keys[4].ID)
	var seen []string
	n, err := b.store.Reseal(t.Context(), func(o *rule.Option) error {
		seen = append(seen, o.Sealed)
		if o.Key.ID == keys[1].ID {
			o.Sealed = "broken"
			return errors.New("cannot be opened")
		}
		o.Sealed, o.KeyID = strings.Replace(o.Sealed, "old", "new", 1), "k2"
		return nil
	})
	says(t, "a secret that cannot be opened", err, fmt.Sprintf("rule %d", keys[1].ID), "cannot be opened")
	want(t, "resealed", n, 2)
	want(t, "looked at", strings.Join(seen, ","), "old 1,old 2,old 5")
	for i, w := range []string{"", "old 1 k1", "new 2 k2", "old 3 k1", "old 4 k1", "new 5 k2"} {
		o := b.option(t, keys[i])
		want(t, fmt.Sprintf("secrets of rule %d", i), strings.TrimSpace(o.Sealed+" "+o.KeyID), w)
		want(t, "document", o.Document, `{"filter":"true"}`)
	}
	n, err = b.store.Reseal(t.Context(), func(*rule.Option) error { return nil })
	must(t, err)
	want(t, "resealed, all left as they are", n, 0)
	want(t, "version", b.option(t, keys[2]).Version, 2)
}
