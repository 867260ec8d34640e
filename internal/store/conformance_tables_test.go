package store_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

func rules(t *testing.T, b *bench) {
	none, err := webhooks(t, b.store)
	must(t, err)
	want(t, "rules of an empty table", len(none), 0)
	added := rule.Row{Event: "COURSE_ENROLLMENT_CREATED", URL: "https://example.org/'\\\"%?é", Enabled: true, Form: true}
	before := one[time.Time](t, b.admin, "SELECT UTC_TIMESTAMP(6)")
	id, err := b.rules.AddWebhook(t.Context(), added, nil)
	must(t, err)
	after := one[time.Time](t, b.admin, "SELECT UTC_TIMESTAMP(6)")
	// Rows as Django or someone by hand may write them.
	mustExec(t, b.admin, `INSERT INTO openedx_webhooks_webhook (id, created, modified, event, webhook_url, enabled, use_www_form_encoding)
  VALUES (2147483647, '2023-01-31 20:28:10.976084', '2024-01-01 00:00:00', 'session_login_completed', 'ftp://x', 0, 2)`)
	got, err := webhooks(t, b.store)
	must(t, err)
	if len(got) != 2 {
		t.Fatalf("got %d rules, want 2", len(got))
	}
	if got[0].Created.Before(before) || got[0].Created.After(after) {
		t.Errorf("created %s, want between %s and %s", got[0].Created, before, after)
	}
	added.ID, added.Created, added.Modified = id, got[0].Created, got[0].Created
	want(t, "added rule", got[0], added)
	want(t, "other rule", got[1], rule.Row{
		ID: 2147483647, Created: time.Date(2023, 1, 31, 20, 28, 10, 976_084_000, time.UTC),
		Modified: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC),
		Event:    "session_login_completed", URL: "ftp://x", Form: true,
	})
	for kind, exists := range map[delivery.Lane]bool{
		lane(id): true, lane(2147483647): true, lane(id + 1): false, {Kind: delivery.KindInbox, RuleID: 1}: true,
	} {
		found, err := b.store.RuleExists(t.Context(), kind)
		must(t, err)
		want(t, fmt.Sprintf("rule of %v exists", kind), found, exists)
	}
	secret := "https://example.org/" + strings.Repeat("s", 255)
	_, err = b.rules.AddWebhook(t.Context(), rule.Row{Event: "X", URL: secret}, nil)
	if err == nil || strings.Contains(err.Error(), "ssss") {
		t.Errorf("URL too long: got %v, want an error without the URL", err)
	}
	if _, err = b.rules.AddWebhook(t.Context(), rule.Row{Event: strings.Repeat("E", 51), URL: "x"}, nil); err == nil {
		t.Error("an event of 51 characters was accepted")
	}
	want(t, "rules", one[int](t, b.admin, "SELECT COUNT(*) FROM openedx_webhooks_webhook"), 2)
}

func attempts(t *testing.T, b *bench) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 890_999_999, time.FixedZone("", 3600))
	log := []delivery.Attempt{
		{ID: idOf(1), Kind: 1, RuleID: 5, EventType: "t", Number: 1, At: at, Duration: 1500 * time.Millisecond, Class: delivery.ClassTimeout},
		{
			ID: idOf(1), Kind: 1, RuleID: 5, EventType: "t\xff" + strings.Repeat("é", 300), Number: 2, At: at, Status: 500,
			Response: bytes.Repeat([]byte{0, '\'', 0xff}, 2000),
		},
		{ID: idOf(2), Kind: 1, RuleID: 5, Number: 1 << 20, Duration: -time.Second},
	}
	must(t, b.store.LogAttempts(t.Context(), log))
	got, err := b.store.Attempts(t.Context(), idOf(1))
	must(t, err)
	if len(got) != 2 {
		t.Fatalf("got %d attempts, want 2", len(got))
	}
	wantFirst := log[0]
	wantFirst.At = time.Date(2026, 3, 4, 4, 6, 7, 890_000_000, time.UTC)
	got[0].Response, wantFirst.Response = nil, nil // none and empty are the same
	want(t, "first", fmt.Sprintf("%+v", got[0]), fmt.Sprintf("%+v", wantFirst))
	want(t, "response", string(got[1].Response), string(log[1].Response[:4096]))
	want(t, "event type", got[1].EventType, "t\uFFFD"+strings.Repeat("é", 189))
	many := make([]delivery.Attempt, 1201)
	for i := range many {
		many[i] = delivery.Attempt{ID: idOf(3), Number: i, At: at}
	}
	must(t, b.store.LogAttempts(t.Context(), many))
	want(t, "attempts", one[int](t, b.admin, "SELECT COUNT(*) FROM webhook_dispatcher_attempt"), 1204)
}

func undecodable(t *testing.T, b *bench) {
	must(t, b.store.Ping(t.Context()))
	u := store.Undecodable{
		Topic: "dev-learning", Partition: 3, Offset: 1 << 40, Time: time.UnixMilli(1700000000123), Reason: "bad_magic",
		Headers: []bus.Header{{Key: "ce_type", Value: []byte{0xff, 0}}, {Key: "a\xff", Value: nil}},
		Key:     []byte{}, Value: []byte{0, 1, 2, '\'', 0xff},
	}
	for range 2 {
		must(t, b.store.InsertUndecodable(t.Context(), u))
	}
	tombstone := u
	tombstone.Offset, tombstone.Key, tombstone.Value, tombstone.Time = 7, nil, nil, time.Time{}
	must(t, b.store.InsertUndecodable(t.Context(), tombstone))
	remade := u
	remade.Time = u.Time.Add(time.Millisecond)
	must(t, b.store.InsertUndecodable(t.Context(), remade))
	huge := u
	huge.Offset, huge.Key, huge.Value = 8, bytes.Repeat([]byte{'k'}, 1<<17), bytes.Repeat([]byte{'\''}, b.hugeValue())
	huge.Headers = []bus.Header{{Key: "small", Value: []byte("x")}, {Key: "huge", Value: make([]byte, 2<<20)}}
	must(t, b.store.InsertUndecodable(t.Context(), huge))
	want(t, "records", one[int](t, b.admin, "SELECT COUNT(*) FROM webhook_dispatcher_undecodable"), 4)
	var headers, value, key []byte
	var size int
	var at time.Time
	query := `SELECT headers, record_key, record_value, value_size, record_time FROM webhook_dispatcher_undecodable
  WHERE record_offset = ? ORDER BY id LIMIT 1`
	must(t, b.admin.QueryRowContext(t.Context(), query, u.Offset).Scan(&headers, &key, &value, &size, &at))
	want(t, "headers", string(headers), `[{"key":"ce_type","value":"/wA="},{"key":"a\ufffd","value":null}]`)
	want(t, "value", string(value), string(u.Value))
	want(t, "key is null", key == nil, false)
	want(t, "size", size, 5)
	want(t, "time", at, u.Time.UTC())
	must(t, b.admin.QueryRowContext(t.Context(), query, 7).Scan(&headers, &key, &value, &size, &at))
	want(t, "key and value of a tombstone are null", key == nil && value == nil, true)
	want(t, "size of a tombstone", size, 0)
	must(t, b.admin.QueryRowContext(t.Context(), query, 8).Scan(&headers, &key, &value, &size, &at))
	want(t, "size of a huge value", size, len(huge.Value))
	atLeast(t, "what is kept of a huge value", len(value), min(len(huge.Value), 4<<20))
	want(t, "what is kept of a huge key", len(key), 65535)
	want(t, "headers that fit", string(headers), `[{"key":"small","value":"eA=="}]`)
	want(t, "headers are JSON", json.Valid(headers), true)
	if err := b.store.InsertUndecodable(t.Context(), store.Undecodable{Topic: "é"}); err == nil {
		t.Error("a topic that Kafka cannot have was accepted")
	}
}

// hugeValue is more than a row takes.
func (b *bench) hugeValue() int {
	if !b.target.Real {
		return 1 << 20 // the embedded database has no limit worth its time
	}
	return 1<<24 + 5
}

func topics(t *testing.T, b *bench) {
	for _, step := range []struct {
		group, topic string
		absent       bool
	}{
		{"g", "a", false},
		{"g", "b", true},
		{"g", "c", false},
		{"other", "a", true},
		{"g", "b", false},
		{"g", "c", true},
		{"g", "a", false},
		{"g", "A", false},
	} {
		must(t, b.store.RememberTopic(t.Context(), step.group, step.topic, step.absent))
	}
	got, err := b.store.Topics(t.Context(), "g")
	must(t, err)
	want(t, "topics", fmt.Sprint(got), "map[A:false a:false b:true c:true]")
	got, err = b.store.Topics(t.Context(), "none")
	must(t, err)
	want(t, "topics of no group", len(got), 0)
	must(t, b.store.RememberTopic(t.Context(), strings.Repeat("é", 255), strings.Repeat("t", 249), true))
}

func expire(t *testing.T, b *bench) {
	b.insert(t, pendings(0, 5)...)
	b.claim(t, 1, 1, time.Hour, tokenOf(1)) // a leased row is somebody's business, however old
	b.age(t, "updated_at", 15*24*time.Hour, "TRUE")
	b.insert(t, pending(9, 1)) // young
	total := 0
	for {
		n, err := b.store.Expire(t.Context(), 14*24*time.Hour, 3)
		must(t, err)
		if n == 0 {
			break
		}
		total += n
	}
	want(t, "expired", total, 4)
	want(t, "dead", b.count(t, "state = 3 AND due_at IS NULL AND reason = 'expired'"), 4)
	want(t, "pending", b.count(t, "state = 0"), 1)
	want(t, "leased", b.count(t, "state = 1"), 1)
}

func pruneUndecodable(t *testing.T, b *bench) {
	for n := range 5 {
		must(t, b.store.InsertUndecodable(t.Context(), store.Undecodable{Topic: "t", Offset: int64(n), Time: eventTime, Reason: "corrupt"}))
	}
	mustExec(t, b.admin, `UPDATE webhook_dispatcher_undecodable SET created_at = DATE_SUB(created_at, INTERVAL 31 DAY)
  WHERE record_offset < 3`)
	for _, w := range []int{2, 1, 0} {
		n, err := b.store.PruneUndecodable(t.Context(), 30*24*time.Hour, 2)
		must(t, err)
		want(t, "pruned records", n, w)
	}
	want(t, "records", one[int](t, b.admin, "SELECT COUNT(*) FROM webhook_dispatcher_undecodable"), 2)
}

func prune(t *testing.T, b *bench) {
	b.insert(t, pendings(0, 8)...)
	b.claim(t, 1, 6, time.Hour, tokenOf(1))
	var updates []delivery.Update
	for n := range 8 {
		updates = append(updates, delivery.Update{ID: idOf(n), Token: tokenOf(1), State: delivery.Delivered})
	}
	lost, err := b.store.Finish(t.Context(), updates)
	must(t, err)
	want(t, "lost", len(lost), 2)
	b.age(t, "updated_at", 25*time.Hour, "webhook_id <> ?", func() []byte { id := updates[0].ID; return id[:] }())
	kept := b.get(t, idOf(0)).State == delivery.Delivered
	old := 6
	if kept {
		old = 5
	}
	pruned := 0
	for {
		n, err := b.store.PruneEnded(t.Context(), delivery.Delivered, 24*time.Hour, 2)
		must(t, err)
		if n == 0 {
			break
		}
		pruned += n
	}
	want(t, "pruned", pruned, old)
	want(t, "pending", b.count(t, "state = 0"), 2)
	if _, err := b.store.PruneEnded(t.Context(), delivery.Pending, 0, 10); err == nil {
		t.Error("pending rows were pruned")
	}
	now := one[time.Time](t, b.admin, "SELECT UTC_TIMESTAMP(3)")
	var log []delivery.Attempt
	for n := range 5 {
		log = append(log, delivery.Attempt{ID: idOf(1), Number: n, At: now.Add(-time.Duration(n) * 24 * time.Hour)})
	}
	must(t, b.store.LogAttempts(t.Context(), log))
	for _, w := range []int{2, 1, 0} {
		n, err := b.store.PruneAttempts(t.Context(), 36*time.Hour, 2)
		must(t, err)
		want(t, "pruned attempts", n, w)
	}
	left, err := b.store.Attempts(t.Context(), idOf(1))
	must(t, err)
	want(t, "attempts left", len(left), 2)
}

// strict shows that the store's connections have the mode, zone and isolation that its statements rely on.
func strict(t *testing.T, b *bench) {
	row := pending(1, 1)
	row.Reason = delivery.Reason(strings.Repeat("r", 33)) // no check of ours stands before this column
	err := b.store.Insert(t.Context(), []delivery.Insert{pending(2, 1), row, pending(3, 1)})
	if !b.target.Real {
		// Its errors have no numbers, so the batch is refused as a whole; but nothing is cut.
		want(t, "refused", err != nil, true)
		want(t, "rows", b.count(t, "1 = 1"), 0)
		return
	}
	var rejected *delivery.RejectedError
	if !errors.As(err, &rejected) || len(rejected.Rows) != 1 || rejected.Rows[0].Index != 1 {
		t.Errorf("a reason too long for its column: got %v, want it alone rejected", err)
	}
	want(t, "rows", b.count(t, "1 = 1"), 2)
	// Of rows with the same ID those are rejected that the server refused, and the next one is stored.
	err = b.store.Insert(t.Context(), []delivery.Insert{row, row, pending(1, 1), pending(3, 1)})
	if !errors.As(err, &rejected) || len(rejected.Rows) != 2 || rejected.Rows[0].Index != 0 || rejected.Rows[1].Index != 1 {
		t.Errorf("two of three rows with one ID are refused: got %v, want these rejected", err)
	}
	want(t, "rows", b.count(t, "1 = 1"), 3)
}

// errorsQuoteNothing provokes an error whose text on the server quotes the value.
func errorsQuoteNothing(t *testing.T, b *bench) {
	row := pending(1, 1)
	row.Reason = "caf\u00e9-canary" // not of the column's character set
	err := b.store.Insert(t.Context(), []delivery.Insert{row})
	if err == nil {
		t.Fatal("a value outside the character set was accepted")
	}
	wrong, err := mysql.ParseDSN(b.adminDSN)
	must(t, err)
	wrong.User, wrong.Passwd = "nobody", "canary"
	err = openStore(t, wrong.FormatDSN(), nil).Ping(t.Context())
	if err == nil || strings.Contains(err.Error(), "canary") || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("wrong password: got %v, want an error that names the account and not the password", err)
	}
	says(t, "wrong password", err, "user and password in WEBHOOK_DISPATCHER_MYSQL_DSN")
	if wrong, err = mysql.ParseDSN(b.adminDSN); err != nil {
		t.Fatal(err)
	}
	wrong.DBName = "nowhere"
	says(t, "unknown database", openStore(t, wrong.FormatDSN(), nil).Ping(t.Context()), "nowhere", "WEBHOOK_DISPATCHER_MYSQL_DSN")
	denied := strings.TrimSuffix(b.serveDSN, b.database) + "mysql"
	says(t, "database denied", openStore(t, denied, nil).Ping(t.Context()), "mysql", "GRANT", "WEBHOOK_DISPATCHER_MYSQL_DSN")
}

func says(t *testing.T, what string, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: got %v, want it to say %q", what, err, part)
		}
	}
}
