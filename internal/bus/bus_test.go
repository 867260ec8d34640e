package bus_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
)

// stream is a bus in memory that works as Redis Streams would: its positions are ids made of a time
// and a sequence, and each entry is acknowledged alone.
type stream struct {
	mu      sync.Mutex
	pending []bus.Position // not acknowledged
}

func (s *stream) add(at time.Time, sequence int64) bus.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := bus.Position(at.UnixMilli()<<20 | sequence)
	s.pending = append(s.pending, id)
	return id
}

func (s *stream) ack(id bus.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = slices.DeleteFunc(s.pending, func(other bus.Position) bool { return other == id })
}

func (s *stream) unacked() []bus.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.pending)
}

// entry is one that is handed over.
type entry struct {
	stream *stream
	id     bus.Position
	room   <-chan struct{}
}

func (e *entry) Return() {
	e.stream.ack(e.id)
	<-e.room
}

func (e *entry) Resize(int64) {}

// consume hands over what is pending, at most two entries at once, until ctx ends, and then has the
// handler settle the rest.
func (s *stream) consume(ctx context.Context, h bus.Handler) error {
	room := make(chan struct{}, 2)
	for _, id := range s.unacked() {
		if len(room) == cap(room) {
			h.Backpressure("events", 0)
		}
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return h.Drain(context.WithoutCancel(ctx))
		}
		rec := bus.NewRecord("events", 0, id)
		rec.Time = time.UnixMilli(int64(id) >> 20)
		rec.Lend(&entry{s, id, room})
		h.Handle(ctx, rec)
	}
	<-ctx.Done()
	return h.Drain(context.WithoutCancel(ctx))
}

// handler passes everything to the test.
type handler struct {
	handed  chan *bus.Record
	pressed chan struct{}
	drain   func()
}

func (h *handler) Handle(_ context.Context, rec *bus.Record) { h.handed <- rec }
func (h *handler) Backpressure(string, int)                  { h.pressed <- struct{}{} }

func (h *handler) Drain(context.Context) error {
	h.drain()
	return nil
}

// A bus without offsets and partitions fits the contract: entries are acknowledged in any order,
// exactly those that were released, and the next consumer gets the others.
func TestEntriesAcknowledgedOneByOne(t *testing.T) {
	t.Parallel()
	s := &stream{}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ids := []bus.Position{s.add(at, 0), s.add(at, 1), s.add(at.Add(time.Hour), 0)}
	start := func(h *handler) (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- s.consume(ctx, h) }()
		return func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}

	h := &handler{handed: make(chan *bus.Record), pressed: make(chan struct{})}
	stop := start(h)
	first, second := <-h.handed, <-h.handed
	if first.Position != ids[0] || second.Position != ids[1] || !second.Time.Equal(at) {
		t.Errorf("handed over %v and %v of %s, want %v", first.Position, second.Position, second.Time, ids)
	}
	<-h.pressed
	second.Done()
	third := <-h.handed
	h.drain = third.Done // the first stays
	stop()
	if got := s.unacked(); !slices.Equal(got, ids[:1]) {
		t.Errorf("not acknowledged: %v, want %v", got, ids[:1])
	}

	next := &handler{handed: make(chan *bus.Record), drain: func() {}}
	stop = start(next)
	again := <-next.handed
	if again.Position != ids[0] {
		t.Errorf("the next consumer got %v, want %v", again.Position, ids[0])
	}
	again.Done()
	stop()
	if got := s.unacked(); len(got) > 0 {
		t.Errorf("not acknowledged in the end: %v", got)
	}
}
