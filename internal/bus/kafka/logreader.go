package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/backoff"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
)

// LogReader reads the records again that topics still hold. It is not in the group and commits
// nothing, so consumers do not notice. It is safe for concurrent use.
type LogReader struct {
	cluster    *cluster
	routes     *route
	resetDelay time.Duration // as in Options
}

// readPatience is how long a partition may give errors or nothing before Read gives up.
const readPatience = 30 * time.Second

// NewLogReader checks the source; it connects to nothing. The LogReader must be closed.
func NewLogReader(source Source) (*LogReader, error) {
	if err := source.check(); err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	cluster, err := newCluster(source, newConditions(slog.New(slog.DiscardHandler))) // what goes wrong is returned
	if err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	return &LogReader{cluster: cluster, routes: cluster.route(nil), resetDelay: defaultResetDelay}, nil
}

// Close closes the connections; calls in progress end with an error.
func (h *LogReader) Close() {
	h.cluster.close()
	h.routes.close()
}

// Ranges returns the range of each partition of the topics from the first record written at since
// or later to the present end, by topic and partition; all of the log if since is zero. Brokers
// find that record by the times of records, which need not rise: later records of the range may be
// older than since. absent are topics that were named and do not exist.
func (h *LogReader) Ranges(ctx context.Context, since time.Time) (ranges []bus.Range, absent []string, err error) {
	found, err := h.cluster.discover(ctx)
	if err == nil {
		err = h.cluster.conditions.err() // a topic that must not be read is not an empty one
	}
	if err != nil {
		return nil, nil, err
	}
	for _, topic := range found.topics() {
		some, err := h.rangesOf(ctx, topic, found.partitions[topic], since)
		if err != nil {
			return nil, nil, err
		}
		ranges = append(ranges, some...)
	}
	slices.Sort(found.absent)
	return ranges, found.absent, nil
}

func (h *LogReader) rangesOf(ctx context.Context, topic string, partitions []int, since time.Time) ([]bus.Range, error) {
	starts, ends, err := bounds(ctx, h.routes.Client, topic, partitions)
	if err != nil {
		return nil, err
	}
	firsts := starts
	if !since.IsZero() {
		// Negative times mean something else.
		if firsts, err = offsetsAt(ctx, h.routes.Client, topic, partitions, max(since.UnixMilli(), 0)); err != nil {
			return nil, fmt.Errorf("find the records since %s: %w", since.UTC().Format(time.RFC3339), err)
		}
	}
	ranges := make([]bus.Range, len(partitions))
	for i, p := range partitions {
		first := firsts[p]
		if first < 0 {
			first = ends[p]
		}
		ranges[i] = bus.Range{
			Topic: topic, Partition: p, From: bus.Position(min(max(first, starts[p]), ends[p])), To: bus.Position(ends[p]),
			Start: bus.Position(starts[p]),
		}
	}
	return ranges, nil
}

// ErrRecreated says that a log ended before the range: the topic was deleted and created again.
var ErrRecreated = errors.New("the log ends before the range: the topic was deleted and created again")

// Read passes the records of a range to take, in order, until take returns an error, which it
// returns. take may keep a record. Errors of brokers are retried until there was no progress for 30
// s. lost is how many offsets retention removed before they were read.
func (h *LogReader) Read(ctx context.Context, r bus.Range, take func(*bus.Record) error) (lost int64, err error) {
	rd := &reader{client: h.routes.Client, topic: r.Topic, partition: r.Partition, position: int64(r.From)}
	var failing backoff.Backoff
	moved := time.Now()
	for rd.position < int64(r.To) {
		began, before := time.Now(), rd.position
		items, err := rd.fetch(ctx, fetchMax)
		if ctx.Err() != nil {
			return lost, context.Cause(ctx)
		}
		if errors.Is(err, kafka.OffsetOutOfRange) {
			var start int64
			if start, _, err = rd.bounds(ctx); err == nil && start > before {
				lost += min(start, int64(r.To)) - before
				rd.position = start
				continue
			}
			err = cmp.Or(err, ErrRecreated)
		}
		if err == nil {
			for i := range items {
				at := bus.Position(items[i].offset)
				if at >= r.To {
					return lost, nil
				}
				rec := bus.NewRecord(r.Topic, r.Partition, at)
				items[i].move(rec)
				if err := take(rec); err != nil {
					return lost, err
				}
			}
		}
		if rd.position > before {
			moved = time.Now()
			failing.Reset()
			continue
		}
		if err == nil {
			err = errors.New("the broker sends nothing")
			if rd.end < int64(r.To) && rd.position >= rd.end {
				err = ErrRecreated
			}
		}
		if time.Since(moved) >= h.patience(err) {
			return lost, fmt.Errorf("read %s, partition %d, at offset %d: %w", r.Topic, r.Partition, rd.position, err)
		}
		if time.Since(began) < fetchWait/2 && failing.Wait(ctx) != nil {
			return lost, context.Cause(ctx)
		}
	}
	return lost, nil
}

// patience is how long a partition may keep giving the error.
func (h *LogReader) patience(err error) time.Duration {
	switch c := class(err); {
	case c == "corrupt" || c == "authorization":
		return 0 // asking again does not help
	case errors.Is(err, ErrRecreated):
		return h.resetDelay // a leader that has just started may not know its end yet
	}
	return readPatience
}

// Record returns the record at a position; nil if the topic has none there (any more).
func (h *LogReader) Record(ctx context.Context, topic string, partition int, at bus.Position) (*bus.Record, error) {
	found, err := h.rangesOf(ctx, topic, []int{partition}, time.Time{})
	if errors.Is(err, kafka.UnknownTopicOrPartition) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if r := found[0]; at < r.Start || at >= r.To {
		return nil, nil
	}
	var rec *bus.Record
	_, err = h.Read(ctx, bus.Range{Topic: topic, Partition: partition, From: at, To: at + 1}, func(got *bus.Record) error {
		rec = got
		return nil
	})
	return rec, err
}
