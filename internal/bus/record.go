package bus

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/offset"
)

// Header is one header of a record. A key may stand more than once.
type Header struct {
	Key   string
	Value []byte
}

// Record is one record of a topic. Its bytes belong to the handler until Done is called and are never changed.
type Record struct {
	Topic     string
	Partition int
	Offset    int64
	// Time is the record's timestamp: the producer's or the broker's, as the topic is configured.
	Time time.Time
	// Fetched is when the fetch that brought the record had ended, with the monotonic clock: whatever the record tells of had happened.
	Fetched time.Time
	Key     []byte
	Value   []byte // nil where the record has none (a tombstone)
	Headers []Header

	done    atomic.Bool
	release func(*Record)
	entry   offset.Entry // in the tracker of the partition that read it
	share   *share       // of the byte budget; nil for a record that the bus did not read
	size    int64        // what it counts against the byte budget
}

// NewRecord returns a record, fetched now, that calls release once, on the first Done. The bus makes its own; other callers are tests
// and replays.
func NewRecord(topic string, partition int, offset int64, release func(*Record)) *Record {
	return &Record{Topic: topic, Partition: partition, Offset: offset, Fetched: time.Now(), release: release}
}

// Done releases the record: every delivery that it caused has been delivered or is a row, or it caused none. It may be
// called from any goroutine and more than once; only the first call counts. A record that is never done is read again
// by the partition's next owner.
func (r *Record) Done() {
	if r.done.CompareAndSwap(false, true) && r.release != nil {
		r.release(r)
	}
}

// Unload drops Key, Value and Headers, which the handler has made something else of, and counts bytes against the byte budget in
// their place: what stays in memory for the record until Done. It must be called before anything that may call Done.
func (r *Record) Unload(bytes int64) {
	r.Key, r.Value, r.Headers = nil, nil, nil
	if r.share != nil {
		bytes += unloadedOverhead
		r.share.give(r.size - bytes)
		r.size = bytes
	}
}

// Released tells whether Done has been called.
func (r *Record) Released() bool { return r.done.Load() }

// Handler takes over records. Methods are called from the partitions' goroutines, so for different partitions at once.
type Handler interface {
	// Handle takes over rec and calls rec.Done, then or later, from any goroutine. The records of one partition come one
	// after another, in order. Handle may block while it cannot take the record (registry away, lanes full) until ctx
	// ends; a record for which ctx ended may be dropped without Done.
	Handle(ctx context.Context, rec *Record)

	// Pressed says that the window of a partition is full and fetching from it has stopped. It is repeated every 100 ms for as long as
	// that holds, and must not block.
	Pressed(topic string, partition int)

	// Drain is called at the end of a generation, when no further Handle will begin and none is running. It settles what was handled (hands it
	// off) so that the records can be released, and returns when all are or ctx has ended. What is not released by then is dropped:
	// later results for it are ignored.
	Drain(ctx context.Context) error
}
