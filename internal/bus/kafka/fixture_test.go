package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"go.uber.org/goleak"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/fakes"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// deadline is how long a test waits for something that must happen. Nothing waits that long when it
// works.
const deadline = 30 * time.Second

const group = "dev-webhook-dispatcher"

// memory is a TopicState that can fail.
type memory struct {
	mu   sync.Mutex
	rows map[string]bool
	err  error
}

func (m *memory) Topics(context.Context, string) (map[string]bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.rows), m.err
}

func (m *memory) RememberTopic(_ context.Context, _, topic string, absent bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	if m.rows == nil {
		m.rows = map[string]bool{}
	}
	if m.rows[topic] && !absent {
		return errors.New("a true row was made false")
	}
	m.rows[topic] = absent
	return nil
}

func (m *memory) row(topic string) (value, exists bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	value, exists = m.rows[topic]
	return value, exists
}

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

// handler keeps what it gets. take decides what becomes of a record; nil releases it at once.
type handler struct {
	take  func(ctx context.Context, rec *bus.Record)
	drain func(ctx context.Context) error

	mu      sync.Mutex
	records []*bus.Record
	pressed map[string]int
	drains  int
	busy    int
	changed chan struct{}
}

func newHandler() *handler { return &handler{pressed: map[string]int{}, changed: make(chan struct{})} }

func (h *handler) update(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *handler) Handle(ctx context.Context, rec *bus.Record) {
	h.update(func() { h.records = append(h.records, rec); h.busy++ })
	if h.take != nil {
		h.take(ctx, rec)
	} else {
		rec.Done()
	}
	h.update(func() { h.busy-- })
}

func (h *handler) Backpressure(topic string, partition int) {
	h.update(func() { h.pressed[fmt.Sprint(topic, "/", partition)]++ })
}

func (h *handler) Drain(ctx context.Context) error {
	h.update(func() {
		if h.busy != 0 {
			panic("Drain was called while Handle ran")
		}
		h.drains++
	})
	if h.drain != nil {
		return h.drain(ctx)
	}
	return nil
}

// wait returns when cond, called with the lock held, is true.
func (h *handler) wait(t *testing.T, what string, cond func() bool) {
	t.Helper()
	timeout := time.After(deadline)
	for {
		h.mu.Lock()
		ok, changed := cond(), h.changed
		h.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			h.mu.Lock()
			records, pressed := len(h.records), h.pressed
			h.mu.Unlock()
			t.Fatalf("waited for: %s; have %d records, pressed %v", what, records, pressed)
		}
	}
}

func (h *handler) waitFor(t *testing.T, n int) {
	t.Helper()
	h.wait(t, fmt.Sprint(n, " records"), func() bool { return len(h.records) >= n })
}

// values returns the values in the order in which they came.
func (h *handler) values() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	values := make([]string, len(h.records))
	for i, r := range h.records {
		values[i] = string(r.Value)
	}
	return values
}

func (h *handler) at(i int) *bus.Record {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.records[i]
}

// bench is a broker with what belongs to it.
type bench struct {
	*testing.T
	broker *fakes.Broker
	memory *memory
}

func newBench(t *testing.T, o fakes.BrokerOptions) *bench {
	t.Helper()
	broker, err := fakes.StartBroker(o)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{T: t, broker: broker, memory: &memory{}}
	t.Cleanup(func() { b.broker.Close() })
	return b
}

func (b *bench) publish(topic string, partition int32, values ...string) {
	b.Helper()
	messages := make([]fakes.Message, len(values))
	for i, v := range values {
		messages[i] = fakes.Message{Topic: topic, Partition: partition, Value: []byte(v)}
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if err := b.broker.Publish(ctx, messages...); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) committed(topic string, partition int32) int64 {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	offset, err := b.broker.Committed(ctx, group, topic, partition)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return -1
	}
	if err != nil {
		b.Fatal(err)
	}
	return offset
}

// eventually looks again and again, and fails the test with what it saw last.
func (b *bench) eventually(what string, ok func() bool) {
	b.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(deadline)
	for !ok() {
		select {
		case <-tick.C:
		case <-timeout:
			b.Fatal("waited for: " + what)
		}
	}
}

func (b *bench) wantCommitted(topic string, partition int32, want int64) {
	b.Helper()
	var last int64
	b.eventually(fmt.Sprintf("committed %s/%d = %d", topic, partition, want), func() bool {
		last = b.committed(topic, partition)
		return last == want
	})
}

// running is a consumer that runs.
type running struct {
	*Consumer
	stop func()
}

// consume starts a consumer; it is stopped at the end of the test at the latest.
func (b *bench) consume(h bus.Handler, change func(*Options)) *running {
	b.Helper()
	o := Options{
		Source: Source{Brokers: b.broker.Addrs(), TopicPrefix: "dev", Topics: []string{"a"}}, GroupID: group, StartOffset: Earliest,
		CommitInterval: 20 * time.Millisecond, TopicPoll: 100 * time.Millisecond, TopicState: b.memory, Handler: h,
		Logger: slog.New(slog.NewTextHandler(testWriter{b.T}, &slog.HandlerOptions{Level: slog.LevelInfo})), resetDelay: 50 * time.Millisecond,
	}
	if change != nil {
		change(&o)
	}
	c, err := New(o)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				b.Errorf("Run: %v", err)
			}
		case <-time.After(deadline):
			b.Error("Run did not end")
		}
	})
	b.Cleanup(stop)
	return &running{Consumer: c, stop: stop}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func numbers(prefix string, n int) []string {
	values := make([]string, n)
	for i := range values {
		values[i] = fmt.Sprint(prefix, i)
	}
	return values
}
