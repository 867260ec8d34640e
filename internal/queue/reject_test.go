package queue_test

import (
	"bytes"
	"context"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/queue"
)

// A row is offered with less and less in it, and what is stored says whose it is.
func TestRefusedRowIsReduced(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 300)
	for name, c := range map[string]struct {
		refuse func(in delivery.Insert) bool
		kind   string // of event type that is stored
	}{
		"body":      {func(in delivery.Insert) bool { return in.Body != nil }, strings.Repeat("é", 191)},
		"long text": {func(in delivery.Insert) bool { return utf8.RuneCountInString(in.EventType) > 191 }, strings.Repeat("é", 191)},
		"any text": {func(in delivery.Insert) bool {
			return in.EventType != "" || in.Traceparent != "" || !in.EventTime.IsZero()
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := &database{refuse: c.refuse}
			withWriter(t, db, func(t *testing.T, w *queue.Writer, reg *prometheus.Registry) {
				var stored atomic.Int32
				in := row(1)
				in.Kind, in.RuleID, in.EventType, in.EventID = delivery.KindWebhook, 7, long, long
				in.Traceparent, in.EventTime, in.Attempts, in.LastStatus = "x", time.Now(), 3, 500
				w.Enqueue(in, nil, func() { stored.Add(1) })
				pass(time.Second)
				rows := db.stored()
				if stored.Load() != 1 || len(rows) != 1 {
					t.Fatalf("%d confirmed, %d stored, want one", stored.Load(), len(rows))
				}
				got := rows[0]
				if got.ID != in.ID || got.Lane() != in.Lane() || got.State != delivery.Dead || got.Body != nil || got.EventType != c.kind ||
					got.Attempts != 3 || got.LastStatus != 500 {
					t.Errorf("stored %+v", got)
				}
				if n := counter(t, reg, "webhook_dispatcher_rows_rejected_total"); n != 1 {
					t.Errorf("%v rejected, want 1: each row counts once", n)
				}
				if err := w.Ready(); err != nil {
					t.Errorf("ready: %v", err)
				}
			})
		})
	}
}

// What is refused in any form is named until somebody has mended the table, or another replica
// reads the event.
func TestRowRefusedInAnyForm(t *testing.T) {
	t.Parallel()
	var mended atomic.Bool
	db := &database{refuse: func(in delivery.Insert) bool { return in.ID[0] >= 2 && !mended.Load() }}
	withWriter(t, db, func(t *testing.T, w *queue.Writer, reg *prometheus.Registry) {
		var stored, asked atomic.Int32
		var wanted atomic.Bool
		wanted.Store(true)
		w.Enqueue(row(1), nil, nil)
		w.Enqueue(row(2), nil, func() { stored.Add(1) })
		w.Enqueue(row(3), func() bool { asked.Add(1); return wanted.Load() }, func() { t.Error("confirmed a row that was given up") })
		pass(10 * time.Minute)
		db.setAway(true)
		pass(10 * time.Minute) // offered again all the while; it must not gather
		db.setAway(false)
		pass(10 * time.Second)
		err := w.Ready()
		if err == nil || !strings.Contains(err.Error(), "refuses 2 deliveries") || !strings.Contains(err.Error(), "msg_0") {
			t.Errorf("ready: %v, want the refused rows named", err)
		}
		if n := gauge(t, reg, "webhook_dispatcher_rows_refused"); n != 2 {
			t.Errorf("%v refused, want 2", n)
		}
		if n := counter(t, reg, "webhook_dispatcher_rows_rejected_total"); n != 2 {
			t.Errorf("%v rejected, want 2: each row counts once", n)
		}
		wanted.Store(false)
		pass(2 * time.Minute)
		if n := gauge(t, reg, "webhook_dispatcher_rows_refused"); n != 1 {
			t.Errorf("%v refused after one was given up, want 1", n)
		}
		mended.Store(true)
		pass(2 * time.Minute)
		if err := w.Ready(); err != nil {
			t.Errorf("ready: %v although all is stored", err)
		}
		if stored.Load() != 1 || len(db.stored()) != 2 {
			t.Errorf("confirmed %d times, stored %v", stored.Load(), db.stored())
		}
	})
}

// logLines counts lines and can be read while something logs.
type logLines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestTroublesOfManyRowsAreOneLineAMinute(t *testing.T) {
	t.Parallel()
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			logs := &logLines{}
			db := &database{refuse: func(delivery.Insert) bool { return true }}
			w, err := queue.NewWriter(queue.WriterOptions{Store: db, Logger: slog.New(slog.NewTextHandler(logs, nil))})
			if err != nil {
				t.Fatal(err)
			}
			w.Start(t.Context())
			for n := range 240 {
				w.Enqueue(row(byte(n)), nil, nil)
				pass(time.Second)
			}
			text, told := logs.String(), 0
			for _, count := range regexp.MustCompile(`count=(\d+)`).FindAllStringSubmatch(text, -1) {
				n, _ := strconv.Atoi(count[1])
				told += n
			}
			if strings.Count(text, "level=ERROR") > 5 || told < 170 {
				t.Errorf("%d rows told of in 4 minutes:\n%s", told, text)
			}
			if err := w.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("crash loops", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			logs := &logLines{}
			s := &table{due: map[delivery.Lane][]time.Time{}, tokens: map[delivery.Token]bool{}, claims: 9}
			l := &lanes{room: map[delivery.Lane]int{lane1: 1000}, got: map[delivery.Lane]int{}}
			c, err := queue.NewClaimer(queue.ClaimerOptions{
				Store: s, Consumers: consumers(l), Settle: func(delivery.Update) {}, Logger: slog.New(slog.NewTextHandler(logs, nil)),
			})
			if err != nil {
				t.Fatal(err)
			}
			s.add(lane1, 600, 0)
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			var running sync.WaitGroup
			running.Go(func() { c.Run(ctx) })
			pass(90 * time.Second)
			s.add(lane1, 1, 0)
			running.Wait()
			if text := logs.String(); strings.Count(text, "level=ERROR") != 2 || !strings.Contains(text, "count=32\n") ||
				!strings.Contains(text, "count=569\n") {
				t.Errorf("logged:\n%s", text)
			}
		})
	})
}
