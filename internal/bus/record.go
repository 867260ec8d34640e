package bus

import (
	"context"
	"sync/atomic"
	"time"
)

// Header is one header of a record. The same key may appear more than once. In JSON the value is
// base64.
type Header struct {
	Key   string `json:"key"`
	Value []byte `json:"value"`
}

// Position is where a record stands in its partition. Only the bus that made it knows what it
// holds: Kafka's offset, or the id of a Redis entry packed into one number. Everybody else may
// compare positions of one partition, store them as a number and print them. They rise from record
// to record, and p+1 is the first position behind the record at p.
type Position int64

// Record is one record of a topic. Its bytes belong to the handler until Done is called, and nobody
// changes them.
type Record struct {
	Topic     string
	Partition int // 0 on a bus without partitions
	Position  Position
	// Time is the record's timestamp: the producer's or the broker's, as the topic is configured.
	Time time.Time
	// Fetched is when the read that brought the record ended, with the monotonic clock. What the
	// record reports had happened by then.
	Fetched time.Time
	Key     []byte
	Value   []byte // nil if the record has none (a tombstone)
	Headers []Header

	done atomic.Bool
	loan Loan // nil for a record that no bus waits for
}

// NewRecord returns a record fetched now, without a loan.
func NewRecord(topic string, partition int, at Position) *Record {
	return &Record{Topic: topic, Partition: partition, Position: at, Fetched: time.Now()}
}

// Loan is what a bus wants to be told of a record that it hands over.
type Loan interface {
	// Return is called once, by the first Done, from any goroutine.
	Return()
	// Resize is called by Shrink, with the bytes that the record takes from then on.
	Resize(bytes int64)
}

// Lend sets the loan. It must be called before the record is handed over.
func (r *Record) Lend(loan Loan) { r.loan = loan }

// Done releases the record: each delivery that it caused has been delivered or is a row, or it
// caused none. It may be called from any goroutine and more than once; only the first call counts.
// A record that is never done is read again by the partition's next owner.
func (r *Record) Done() {
	if r.done.CompareAndSwap(false, true) && r.loan != nil {
		r.loan.Return()
	}
}

// Released reports whether Done has been called.
func (r *Record) Released() bool { return r.done.Load() }

// Shrink drops Key, Value and Headers because the handler has turned them into something that takes
// bytes of memory until Done. It must be called before anything that may call Done.
func (r *Record) Shrink(bytes int64) {
	r.Key, r.Value, r.Headers = nil, nil, nil
	if r.loan != nil {
		r.loan.Resize(bytes)
	}
}

// Handler takes over records. Its methods are called from the partitions' goroutines, so for
// different partitions at once.
type Handler interface {
	// Handle takes over rec and calls rec.Done, now or later, from any goroutine. The records of
	// one partition come one after another, in order. Handle may block while it cannot take the
	// record (no registry, lanes full) until ctx ends; a record for which ctx ended may be dropped
	// without Done.
	Handle(ctx context.Context, rec *Record)

	// Backpressure says that as many records of a partition are in flight as may be, and that
	// reading from it has stopped. It is repeated every 100 ms while that holds, and must not
	// block.
	Backpressure(topic string, partition int)

	// Drain is called when this process is about to give up what it reads: no Handle is running and
	// none will begin before Drain returns. It settles what was handled (hands it off) so that the
	// records can be released, and returns when all are or ctx has ended. What is not released by
	// then is read again by another process; late calls of Done have no effect.
	Drain(ctx context.Context) error
}

// Range is a part of one partition's log: the records from From to before To. There need not be a
// record at each position in between.
type Range struct {
	Topic     string
	Partition int
	From, To  Position
	// Start is where the log began when it was looked at. Above 0, older records are gone.
	Start Position
}
