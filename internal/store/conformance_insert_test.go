package store_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

var eventTime = time.Date(2024, 2, 29, 23, 59, 59, 999_999_000, time.UTC)

func idOf(n int) (id delivery.ID) {
	binary.BigEndian.PutUint64(id[:], uint64(n)*0x9E3779B97F4A7C15)
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

func tokenOf(n int) delivery.Token {
	return delivery.Token(bytes.Repeat([]byte{byte(n)}, 16))
}

// pending returns a row that is due at once.
func pending(n int, rule int32) delivery.Insert {
	return delivery.Insert{Delivery: delivery.Delivery{
		ID: idOf(n), Kind: delivery.KindWebhook, RuleID: rule, EventType: "org.openedx.test.v1", EventID: fmt.Sprintf("event-%d", n),
		EventTime: eventTime, Format: delivery.FormatJSON, Body: fmt.Appendf(nil, `{"n": %d}`, n),
	}}
}

// pendings returns rows of rule 1, numbered from from to before to.
func pendings(from, to int) []delivery.Insert {
	rows := make([]delivery.Insert, 0, to-from)
	for n := from; n < to; n++ {
		rows = append(rows, pending(n, 1))
	}
	return rows
}

func lane(rule int32) delivery.Lane { return delivery.Lane{Kind: delivery.KindWebhook, RuleID: rule} }

func (b *bench) insert(t testing.TB, rows ...delivery.Insert) {
	t.Helper()
	must(t, b.store.Insert(t.Context(), rows))
}

func (b *bench) claim(t testing.TB, rule int32, room int, lease time.Duration, token delivery.Token) []delivery.Row {
	t.Helper()
	rows, err := b.store.Claim(t.Context(), lane(rule), room, lease, token)
	must(t, err)
	return rows
}

func (b *bench) get(t testing.TB, id delivery.ID) delivery.Row {
	t.Helper()
	row, ok, err := b.store.Get(t.Context(), id)
	must(t, err)
	if !ok {
		t.Fatalf("no row of %s", id)
	}
	return row
}

func (b *bench) count(t testing.TB, where string) int {
	t.Helper()
	return one[int](t, b.admin, "SELECT COUNT(*) FROM webhook_dispatcher_delivery WHERE "+where)
}

func insertNone(t *testing.T, b *bench) {
	b.insert(t)
	must(t, b.store.LogAttempts(t.Context(), nil))
	lost, err := b.store.Finish(t.Context(), nil)
	must(t, err)
	want(t, "lost", len(lost), 0)
	want(t, "rows claimed from an empty lane", len(b.claim(t, 1, 10, time.Minute, tokenOf(1))), 0)
	want(t, "rows claimed without room", len(b.claim(t, 1, 0, time.Minute, tokenOf(1))), 0)
	_, ok, err := b.store.Get(t.Context(), idOf(1))
	must(t, err)
	want(t, "unknown delivery found", ok, false)
	if err := b.store.Insert(t.Context(), []delivery.Insert{{State: delivery.Leased}}); err == nil {
		t.Error("a leased row without a token was accepted")
	}
	if err := b.store.Insert(t.Context(), []delivery.Insert{{State: delivery.Delivered}}); err == nil {
		t.Error("a delivered row was accepted")
	}
}

// insertStates brings a row into each state and inserts it again: it must stay what it is.
func insertStates(t *testing.T, b *bench) {
	leased, dead := pending(2, 1), pending(3, 1)
	leased.State, leased.Token, leased.Delay, leased.Claims = delivery.Leased, tokenOf(7), time.Hour, 1
	leased.Reason = delivery.ReasonHandOff
	dead.State, dead.Reason, dead.Body = delivery.Dead, delivery.ReasonTooLarge, nil
	waiting := pending(1, 1)
	waiting.Delay, waiting.Attempts, waiting.LastStatus, waiting.Reason = time.Hour, 1, 503, delivery.ReasonStatus
	b.insert(t, waiting, leased, dead)
	for n, state := range map[int]delivery.State{4: delivery.Delivered, 5: delivery.Halted} {
		b.insert(t, pending(n, 2))
		b.claim(t, 2, 1, time.Hour, tokenOf(n))
		_, err := b.store.Finish(t.Context(), []delivery.Update{{ID: idOf(n), Token: tokenOf(n), State: state}})
		must(t, err)
	}
	before := make(map[int]string)
	for n := 1; n <= 5; n++ {
		before[n] = fmt.Sprintf("%+v", b.get(t, idOf(n)))
	}
	again := pendings(1, 6)
	b.insert(t, append(again, again...)...)
	want(t, "rows", b.count(t, "1 = 1"), 5)
	for n := 1; n <= 5; n++ {
		if after := fmt.Sprintf("%+v", b.get(t, idOf(n))); after != before[n] {
			t.Errorf("row %d changed:\n%s\n%s", n, before[n], after)
		}
	}
	for i, state := range []delivery.State{delivery.Pending, delivery.Leased, delivery.Dead, delivery.Delivered, delivery.Halted} {
		want(t, fmt.Sprintf("state of row %d", i+1), b.get(t, idOf(i+1)).State, state)
	}
	want(t, "token of the leased row", b.get(t, idOf(2)).Token, tokenOf(7))
	want(t, "dead row is due", b.get(t, idOf(3)).DueAt.IsZero(), true)
}

func insertMany(t *testing.T, b *bench) {
	total := 10_000
	if !b.target.Real {
		total = 1_500 // the embedded database takes longer for each statement, the larger the table is
	}
	rows := pendings(0, total)
	b.insert(t, rows...)
	b.insert(t, rows[total/2:]...)
	want(t, "rows", b.count(t, "1 = 1"), total)
}

// insertLarge inserts more than the server takes in one statement, of bytes that all need an escape.
func insertLarge(t *testing.T, b *bench) {
	must(t, b.store.Ping(t.Context()))
	largest := b.store.MaxBody()
	if !b.target.Real {
		largest = 1 << 20 // the embedded database takes a gigabyte, slowly
	} else {
		packet := one[int](t, b.admin, "SELECT @@max_allowed_packet")
		atLeast(t, "largest body", largest, min(1<<24-1, packet/2-(8<<10)))
	}
	rows := pendings(0, 6)
	for i := range rows {
		rows[i].Body = bytes.Repeat([]byte(`"\`), largest/8)
	}
	rows[5].Body = bytes.Repeat([]byte(`'`), largest)
	b.insert(t, rows...)
	for i := range rows {
		if !bytes.Equal(b.get(t, rows[i].ID).Body, rows[i].Body) {
			t.Errorf("body of row %d came back changed", i)
		}
	}
}

// insertRejected gives one batch rows that can be stored and rows that cannot.
func insertRejected(t *testing.T, b *bench) {
	must(t, b.store.Ping(t.Context()))
	rows := pendings(0, 7)
	rows[1].EventID = strings.Repeat("é", 192)
	rows[2].EventID = strings.Repeat("é", 191)
	rows[3].EventType = strings.Repeat("t", 192)
	rows[4].Body = make([]byte, b.store.MaxBody()+1)
	err := b.store.Insert(t.Context(), rows)
	var rejected *delivery.RejectedError
	if !errors.As(err, &rejected) {
		t.Fatalf("Insert: got %v, want a RejectedError", err)
	}
	columns := make(map[int]string)
	for _, row := range rejected.Rows {
		columns[row.Index] = row.Column
		want(t, "rejected id", row.ID, rows[row.Index].ID)
	}
	want(t, "rejected", fmt.Sprint(columns), "map[1:event_id 3:event_type 4:body]")
	want(t, "rows", b.count(t, "1 = 1"), 4)
	want(t, "id of the longest", b.get(t, rows[2].ID).EventID, rows[2].EventID)
}

func insertInvalidText(t *testing.T, b *bench) {
	row := pending(1, 1)
	row.EventType, row.EventID = "a\xffb", "\xc3\x28'\\ \x00 😀"
	row.Traceparent = "not ascii: \u00e9"
	row.EventTime = time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)
	row.Body = []byte{0, 0xff, '\'', '\\', '"', '\n', 0x1a}
	row.Claims, row.Attempts, row.LastStatus = 1<<20, 1<<20, -1
	b.insert(t, row, pending(2, 1))
	got := b.get(t, row.ID)
	want(t, "event type", got.EventType, "a\uFFFDb")
	want(t, "event id", got.EventID, "\uFFFD('\\ \x00 😀")
	want(t, "traceparent", got.Traceparent, "")
	want(t, "event time is none", got.EventTime.IsZero(), true)
	want(t, "body", string(got.Body), string(row.Body))
	want(t, "attempts", got.Attempts, 65535)
	want(t, "rows", b.count(t, "1 = 1"), 2)
}

func insertRoundTrip(t *testing.T, b *bench) {
	row := pending(1, -5)
	row.Kind, row.Format, row.Body = delivery.KindInbox, delivery.FormatForm, nil
	row.Traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	row.Attempts, row.Claims, row.Reason, row.LastStatus = 3, 4, delivery.ReasonRetryAfter, 429
	row.Delay = 90 * time.Minute
	row.EventTime = eventTime.In(time.FixedZone("", -7*3600))
	before := one[time.Time](t, b.admin, "SELECT UTC_TIMESTAMP(3)")
	b.insert(t, row)
	after := one[time.Time](t, b.admin, "SELECT UTC_TIMESTAMP(3)")
	got := b.get(t, row.ID)
	if got.CreatedAt.Before(before) || got.CreatedAt.After(after) {
		t.Errorf("created at %s, want between %s and %s", got.CreatedAt, before, after)
	}
	want(t, "updated at", got.UpdatedAt, got.CreatedAt)
	want(t, "delay", got.DueAt.Sub(got.CreatedAt), row.Delay)
	want(t, "event time", got.EventTime, eventTime)
	wantRow := delivery.Row{
		Delivery: row.Delivery, RowID: got.RowID, DueAt: got.DueAt, Claims: 4, Attempts: 3, Reason: row.Reason, LastStatus: 429,
		CreatedAt: got.CreatedAt, UpdatedAt: got.UpdatedAt,
	}
	wantRow.EventTime = eventTime
	got.Body = nil // none and empty are the same
	want(t, "row", fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", wantRow))
}

// insertDeadlock makes the insert the victim of a deadlock: a heavier transaction holds its second row and wants its first.
func insertDeadlock(t *testing.T, b *bench) {
	undone := make(chan struct{}, 16)
	s := openStore(t, b.serveDSN, slog.New(signalHandler{undone}))
	rows := pendings(1, 3)
	if bytes.Compare(rows[0].ID[:], rows[1].ID[:]) > 0 {
		rows[0], rows[1] = rows[1], rows[0]
	}
	tx, err := b.admin.BeginTx(t.Context(), nil)
	must(t, err)
	insert := func(id delivery.ID) error {
		_, err := tx.ExecContext(t.Context(), `INSERT INTO webhook_dispatcher_delivery (webhook_id, kind, rule_id, state, event_type, event_id,
  body_format, body_size, body, created_at, updated_at) VALUES (?, 1, 99, 3, '', '', 1, 0, '', UTC_TIMESTAMP(3), UTC_TIMESTAMP(3))`, id[:])
		return err
	}
	for n := range 200 {
		must(t, insert(idOf(1000+n)))
	}
	must(t, insert(rows[1].ID))
	done := make(chan error, 1)
	go func() { done <- s.Insert(context.WithoutCancel(t.Context()), rows) }()
	b.awaitLockWait(t)
	must(t, insert(rows[0].ID))
	<-undone // the insert has been undone and tries again
	must(t, tx.Commit())
	must(t, <-done)
	want(t, "rows of the other transaction", b.count(t, "rule_id = 99"), 202)
}

// awaitLockWait returns when a transaction in the bench's database waits for a lock.
func (b *bench) awaitLockWait(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4500*time.Millisecond)
	defer cancel()
	// The server refreshes its list only when nobody has read it for 100 ms.
	pause := time.NewTicker(150 * time.Millisecond)
	defer pause.Stop()
	// MySQL cannot show there a statement that holds bytes, MariaDB has no performance schema by default.
	query := `SELECT COUNT(*) FROM performance_schema.data_lock_waits w JOIN performance_schema.data_locks l
  ON l.engine_lock_id = w.requesting_engine_lock_id WHERE l.object_schema = ?`
	if strings.Contains(one[string](t, b.admin, "SELECT VERSION()"), "MariaDB") {
		query = `SELECT COUNT(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p
  ON p.id = t.trx_mysql_thread_id WHERE t.trx_state = 'LOCK WAIT' AND p.db = ?`
	}
	for {
		<-pause.C
		var n int
		if err := b.admin.QueryRowContext(ctx, query, b.database).Scan(&n); err != nil {
			t.Fatalf("wait for a lock wait: %v", err)
		}
		if n > 0 {
			return
		}
	}
}

// signalHandler tells of each record that the store logs about a statement undone.
type signalHandler struct{ undone chan<- struct{} }

func (signalHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h signalHandler) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "rolled back") {
		select {
		case h.undone <- struct{}{}:
		default:
		}
	}
	return nil
}
func (h signalHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h signalHandler) WithGroup(string) slog.Handler      { return h }
