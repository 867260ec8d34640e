package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"
	"github.com/segmentio/kafka-go/protocol/listoffsets"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus/checkpoint"
)

// fetchWait is how long a broker may hold a fetch when there is nothing to send.
const fetchWait = time.Second

// errCorrupt says that a batch could not be decoded. The partition waits there: skipping it would
// lose events.
var errCorrupt = errors.New("record batch cannot be decoded")

// reader fetches one partition. kafka.Reader is not used because it
//   - returns control records as if they were records, without a mark;
//   - resets an offset that is out of range by its own rules, and does not say how much was lost;
//   - keeps goroutines and a queue of its own, which a generation's end would have to wait for.
type reader struct {
	client    *kafka.Client
	topic     string
	partition int

	position int64 // the next offset to read
	end      int64 // of the log, as of the last answer; 0 before the first
	grown    int64 // bytes to ask for, after an answer that held no whole batch
}

// What a record costs in memory on top of its bytes, as read and after Shrink, and what each of its
// headers does.
const (
	recordOverhead = 512
	shrunkOverhead = 256
	headerOverhead = 48
)

// item is a record that was fetched. It becomes a bus.Record when it is handed over: a fetch brings
// hundreds, and a slice of items costs the garbage collector less than as many records.
type item struct {
	offset     int64
	time       time.Time
	key, value []byte
	headers    []bus.Header
	bytes      int64 // of key, value and headers
	memory     int64 // that counts against the budget
}

// move moves the item into rec: the rest of its fetch must not keep its bytes in memory.
func (it *item) move(rec *bus.Record) {
	rec.Position, rec.Time = bus.Position(it.offset), it.time
	rec.Key, rec.Value, rec.Headers = it.key, it.value, it.headers
	*it = item{}
}

// loan is a record with what the partition must know when it is released. The two are one piece of
// memory, because there is one for each event.
type loan struct {
	bus.Record
	memory int64 // that counts against the budget

	partition *partition
	tracker   *checkpoint.Tracker
	entry     checkpoint.Entry
}

// Return implements bus.Loan.
func (l *loan) Return() {
	l.partition.share.give(l.memory)
	l.tracker.Done(l.entry)
	l.partition.released()
	signal(l.partition.wake)
}

// Resize implements bus.Loan.
func (l *loan) Resize(bytes int64) {
	l.partition.share.give(l.memory - bytes - shrunkOverhead)
	l.memory = bytes + shrunkOverhead
}

// fetch asks for about size bytes and returns the records from the position on, which it moves
// behind them. An answer without records may have moved it as well.
func (r *reader) fetch(ctx context.Context, size int64) ([]item, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchWait+requestTimeout)
	defer cancel()
	most := int32(min(max(size, r.grown), math.MaxInt32))
	req := &fetchRequest{Request: &fetch.Request{
		ReplicaID: -1, MaxWaitTime: int32(fetchWait.Milliseconds()), MinBytes: 1, MaxBytes: most, SessionID: -1, SessionEpoch: -1,
		Topics: []fetch.RequestTopic{{Topic: r.topic, Partitions: []fetch.RequestPartition{{
			Partition: int32(r.partition), CurrentLeaderEpoch: -1, FetchOffset: r.position, LogStartOffset: -1, PartitionMaxBytes: most,
		}}}},
	}}
	msg, err := r.client.Transport.RoundTrip(ctx, r.client.Addr, req)
	if err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	resp := msg.(*fetch.Response)
	if len(resp.Topics) == 0 || len(resp.Topics[0].Partitions) == 0 {
		return nil, fmt.Errorf("fetch: %w", cmp.Or[error](codeOf(resp.ErrorCode), protocol.ErrNoPartition))
	}
	answer := &resp.Topics[0].Partitions[0]
	if err := cmp.Or(codeOf(answer.ErrorCode), codeOf(resp.ErrorCode)); err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	r.end = answer.HighWatermark
	stream, _ := answer.RecordSet.Records.(*protocol.RecordStream)
	if stream == nil || len(stream.Records) == 0 {
		if r.end > r.position {
			// Not one whole batch. Brokers since 0.10.1 send the first one whole whatever was asked
			// for; for others, ask for more.
			r.grown = min(max(2*r.grown, 2*size), 128<<20)
		}
		return nil, nil
	}
	return r.take(stream.Records, req.heads)
}

// take reads the batches of an answer.
func (r *reader) take(batches []protocol.RecordReader, heads []batchHead) ([]item, error) {
	next := r.position
	var records []item
	for i, batch := range batches {
		base := baseOf(batch)
		next = max(next, base)
		var head *batchHead
		if i < len(heads) && heads[i].base == base {
			head = &heads[i]
		}
		_, control := batch.(*protocol.ControlBatch)
		n := int32(0)
		for {
			rec, err := batch.ReadRecord()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("%w: at offset %d: %w", errCorrupt, next, err)
			}
			n++
			skip := control || rec.Offset < next // the batch may begin before the position
			next = max(next, rec.Offset+1)
			if skip {
				err = errors.Join(closed(rec.Key), closed(rec.Value))
			} else {
				records = append(records, item{})
				err = records[len(records)-1].copy(rec)
			}
			if err != nil {
				return nil, fmt.Errorf("%w: at offset %d: %w", errCorrupt, rec.Offset, err)
			}
			if !skip && head != nil && !head.appended.IsZero() {
				records[len(records)-1].time = head.appended
			}
		}
		if head != nil {
			if n != head.records {
				return nil, fmt.Errorf("%w: the batch at offset %d has %d of its %d records", errCorrupt, base, n, head.records)
			}
			next = max(next, head.last+1) // compaction may have taken its last records
		}
	}
	if next > r.position {
		r.position, r.grown = next, 0
	}
	return records, nil
}

// baseOf returns the base offset of a batch, -1 for the message sets of old brokers, which have
// none.
func baseOf(batch protocol.RecordReader) int64 {
	switch b := batch.(type) {
	case *protocol.RecordBatch:
		return b.BaseOffset
	case *protocol.ControlBatch:
		return b.BaseOffset
	}
	return -1
}

// copy takes a record out of the client's buffers and gives these back.
func (it *item) copy(rec *protocol.Record) (err error) {
	it.offset, it.time = rec.Offset, rec.Time
	if it.key, err = contents(rec.Key); err != nil {
		return err
	}
	if it.value, err = contents(rec.Value); err != nil {
		return err
	}
	it.bytes = int64(len(it.key) + len(it.value))
	it.headers = make([]bus.Header, len(rec.Headers))
	for i, h := range rec.Headers {
		it.headers[i] = bus.Header(h)
		it.bytes += int64(len(h.Key) + len(h.Value))
	}
	it.memory = it.bytes + recordOverhead + headerOverhead*int64(len(rec.Headers))
	return nil
}

func contents(field protocol.Bytes) ([]byte, error) {
	if field == nil {
		return nil, nil
	}
	b, err := protocol.ReadAll(field)
	return b, cmp.Or(err, field.Close())
}

func closed(field protocol.Bytes) error {
	if field == nil {
		return nil
	}
	return field.Close()
}

// bounds returns the start and the end of the log.
func (r *reader) bounds(ctx context.Context) (start, end int64, err error) {
	starts, ends, err := bounds(ctx, r.client, r.topic, []int{r.partition})
	return starts[r.partition], ends[r.partition], err
}

// bounds returns the starts and the ends of the logs of one topic's partitions.
func bounds(ctx context.Context, client *kafka.Client, topic string, partitions []int) (starts, ends map[int]int64, err error) {
	if starts, err = offsetsAt(ctx, client, topic, partitions, kafka.FirstOffset); err == nil {
		ends, err = offsetsAt(ctx, client, topic, partitions, kafka.LastOffset)
	}
	return starts, ends, err
}

// offsetsAt returns the first offsets at or after a time in milliseconds, -1 for partitions without
// one, or those that kafka.FirstOffset and kafka.LastOffset stand for, which are negative. It
// returns all of them or an error: a guessed position could skip events.
func offsetsAt(ctx context.Context, client *kafka.Client, topic string, partitions []int, at int64) (map[int]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req := &listoffsets.Request{ReplicaID: -1, Topics: []listoffsets.RequestTopic{{Topic: topic}}}
	for _, p := range partitions {
		req.Topics[0].Partitions = append(req.Topics[0].Partitions,
			listoffsets.RequestPartition{Partition: int32(p), CurrentLeaderEpoch: -1, Timestamp: at})
	}
	resp, err := client.Transport.RoundTrip(ctx, client.Addr, req)
	if err != nil {
		return nil, fmt.Errorf("list offsets of %s: %w", topic, err)
	}
	found := make(map[int]int64, len(partitions))
	for _, t := range resp.(*listoffsets.Response).Topics {
		for _, p := range t.Partitions {
			if p.ErrorCode != 0 {
				return nil, fmt.Errorf("list offsets of %s, partition %d: %w", topic, p.Partition, kafka.Error(p.ErrorCode))
			}
			found[int(p.Partition)] = p.Offset
		}
	}
	for _, p := range partitions {
		if offset, ok := found[p]; !ok || offset < 0 && at < 0 {
			return nil, fmt.Errorf("list offsets of %s: the broker did not answer for partition %d", topic, p)
		}
	}
	return found, nil
}
