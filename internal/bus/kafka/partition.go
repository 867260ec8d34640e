package kafka

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/backoff"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus/checkpoint"
)

// partition is one partition during one generation. Its goroutine fetches and hands over. Records
// are released from any goroutine, even after the generation has ended; that has no effect.
type partition struct {
	*generation
	topic  string
	id     int
	reader *reader
	share  *share

	// tracker is replaced if the topic turns out to have been created again: its offsets start
	// again.
	tracker atomic.Pointer[checkpoint.Tracker]
	end     atomic.Int64  // of the log
	wake    chan struct{} // a token after a release
	pressed time.Time
	growth  float64   // of records, compared with the bytes asked for
	beyond  time.Time // since when the position has been above the end of the log; zero if it is not
}

// begin sets the position to start at; committed is the one that the group has.
func (p *partition) begin(position, committed int64) {
	p.reader.position = position
	p.tracker.Store(checkpoint.New(position, committed))
}

func (p *partition) key() string { return p.topic + "/" + strconv.Itoa(p.id) }

// lag is the number of offsets from the watermark to the end of the log.
func (p *partition) lag() int64 {
	next, _ := p.tracker.Load().Watermark()
	return max(p.end.Load()-next, 0)
}

// run reads until ctx ends.
func (p *partition) run(ctx context.Context) {
	defer p.conditions.forget(partFetch, p.key())
	var failing backoff.Backoff
	var since time.Time
	for ctx.Err() == nil {
		reserved, ok := p.room(ctx)
		if !ok {
			return
		}
		began, before := time.Now(), p.reader.position
		// For a moment all records are in memory twice: as they came, and copied out of that.
		asked := int64(float64(reserved/2) / p.growth)
		items, err := p.reader.fetch(ctx, asked)
		fetched := time.Now()
		var memory int64
		for i := range items {
			memory += items[i].memory
		}
		p.share.spent(reserved, memory)
		p.grow(asked, memory)
		p.end.Store(p.reader.end)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			p.metrics.fetchErrors.WithLabelValues(class(err)).Inc()
			if errors.Is(err, kafka.OffsetOutOfRange) && p.outOfRange(ctx) {
				continue
			}
			if since.IsZero() {
				since = time.Now()
			}
			// A leader may move; it should not stay away.
			if time.Since(since) > 5*time.Second || class(err) == "corrupt" || class(err) == "authorization" {
				p.conditions.report(partFetch, p.key(), err)
			}
			if failing.Wait(ctx) != nil {
				return
			}
			continue
		}
		p.beyond, since = time.Time{}, time.Time{}
		p.conditions.report(partFetch, p.key(), nil)
		if !p.handOver(ctx, items, fetched) {
			return
		}
		p.tracker.Load().Skip(p.reader.position)
		if p.reader.position > before || time.Since(began) >= fetchWait/2 {
			failing.Reset()
		} else if failing.Wait(ctx) != nil { // empty answers that come at once would make a hot loop
			return
		}
	}
}

// firstGrowth is how much larger than on the wire records are assumed to be before any has come.
// Compression of what topics usually hold gives a factor of ten.
const firstGrowth = 8

// grow learns how much larger records are in memory than the fetch that asked for them. An answer
// may be smaller than what was asked for, so a larger factor counts at once and a smaller one
// gradually.
func (p *partition) grow(asked, bytes int64) {
	if bytes == 0 {
		return
	}
	now := float64(bytes) / float64(max(asked, 1))
	p.growth = max(now, 1, p.growth*0.9)
}

// room waits for room for a fetch and reserves its bytes.
func (p *partition) room(ctx context.Context) (reserved int64, ok bool) {
	backlog := p.reader.end > p.reader.position
	full := func() bool {
		if p.tracker.Load().Span() >= p.options.MaxInFlight {
			return true
		}
		reserved = p.share.take(backlog)
		return reserved == 0
	}
	ok = p.wait(ctx, full)
	return reserved, ok
}

// wait returns true once full no longer holds, or false when ctx ends. Meanwhile the handler feels
// backpressure.
func (p *partition) wait(ctx context.Context, full func() bool) bool {
	if !full() {
		return ctx.Err() == nil
	}
	began := time.Now()
	defer func() { p.metrics.fullSeconds.Add(time.Since(began).Seconds()) }()
	for {
		// At most once in pressTime, even if the partition stops being full in between.
		if time.Since(p.pressed) >= pressTime {
			p.pressed = time.Now()
			p.options.Handler.Backpressure(p.topic, p.id)
		}
		select {
		case <-ctx.Done():
			return false
		case <-p.wake:
		case <-time.After(max(pressTime-time.Since(p.pressed), time.Millisecond)):
		}
		if !full() {
			return ctx.Err() == nil
		}
	}
}

// handOver gives what was fetched to the handler as room appears.
func (p *partition) handOver(ctx context.Context, items []item, fetched time.Time) bool {
	tracker := p.tracker.Load()
	for i := range items {
		it := &items[i]
		if !p.wait(ctx, func() bool { return tracker.Span() >= p.options.MaxInFlight || p.share.overdrawn() }) {
			return false
		}
		entry, err := tracker.Add(it.offset)
		if err != nil {
			// The reader returns ascending offsets. If it did not, reading the record again would
			// be harmless.
			p.log.Error("record out of order", "topic", p.topic, "partition", p.id, "error", err)
			p.share.give(it.memory)
			continue
		}
		p.metrics.records.Inc()
		p.metrics.bytes.Add(float64(it.bytes))
		rec := &loan{memory: it.memory, partition: p, tracker: tracker, entry: entry}
		rec.Topic, rec.Partition, rec.Fetched = p.topic, p.id, fetched
		it.move(&rec.Record)
		rec.Lend(rec)
		p.options.Handler.Handle(ctx, &rec.Record)
	}
	return true
}

// outOfRange moves a position that the log does not have. It returns false if the broker should be
// asked again later.
func (p *partition) outOfRange(ctx context.Context) bool {
	position := p.reader.position
	start, end, err := p.reader.bounds(ctx)
	if err != nil {
		return false
	}
	log := p.log.With("topic", p.topic, "partition", p.id, "position", position, "log_start", start, "log_end", end)
	switch {
	case position < start:
		p.metrics.lost.Add(float64(start - position))
		log.Error("retention deleted records before they were read; they are lost",
			"lost", start-position, "hint", "make the retention of the topic longer, or find out what delayed this consumer")
		p.reader.position = start
		p.tracker.Load().Skip(start)
		return true
	case position > end:
		// A leader that has just started may not know its end yet. Going back to the start would
		// send all records again.
		if p.beyond.IsZero() {
			p.beyond = time.Now()
		}
		if time.Since(p.beyond) < p.options.resetDelay {
			return false
		}
		p.beyond = time.Time{}
		p.metrics.resets.Inc()
		log.Error("the position is above the end of the log; was the topic deleted and created again? Reading from its start")
		p.begin(start, checkpoint.None)
		return true
	}
	return false
}
