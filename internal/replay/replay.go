// Package replay makes deliveries due again that were delivered, dead-lettered or could not be
// decoded. It takes them from the topics, which hold events longer than the queue does, from rows
// of the queue, and from kept undecodable records.
//
// It never sends. It makes rows that are due at once, under the ID that the delivery had or under
// one derived from it, so that repeating a replay, after an error or while a daemon runs, makes no
// second row. It belongs to no consumer group and moves no position. It reaches the database and
// the brokers through interfaces, whose types are those of packages store and bus.
package replay

import (
	"context"
	"errors"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/backoff"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// LogReader reads what topics still hold; *kafka.LogReader is one.
type LogReader interface {
	Ranges(ctx context.Context, since time.Time) (ranges []bus.Range, absent []string, err error)
	Read(ctx context.Context, r bus.Range, take func(*bus.Record) error) (lost int64, err error)
	Record(ctx context.Context, topic string, partition int, at bus.Position) (*bus.Record, error)
}

// Rows are the rows of deliveries; *store.Store has them. All methods can be called again after an
// error.
type Rows interface {
	Standings(ctx context.Context, ids []delivery.ID) (map[delivery.ID]store.Standing, error)
	Insert(ctx context.Context, rows []delivery.Insert) error
	Restore(ctx context.Context, rows []delivery.Insert) (restored int, err error)
	Replay(ctx context.Context, rows []uint64) (replayed int, err error)
}

// Records are the kept undecodable records; *store.Store has them.
type Records interface {
	UndecodableRow(ctx context.Context, row uint64) (store.KeptRecord, bool, error)
	Redeliver(ctx context.Context, row uint64, rows []delivery.Insert) (done bool, err error)
}

// Options are what a Replayer needs. All but AllTopics and Apply are required.
type Options struct {
	Log       LogReader
	Decoder   decode.Decoder
	Rows      Rows
	Records   Records
	AllTopics bool         // all topics are read, so records that are not events are expected
	Run       delivery.Run // random, and different from that of all other runs
	Apply     bool         // makes rows; without it, deliveries are counted and nothing is changed
}

// Replayer does one run. It is not safe for concurrent use.
type Replayer struct{ options Options }

// New returns a Replayer. It connects to nothing.
func New(o Options) (*Replayer, error) {
	if o.Log == nil || o.Decoder == nil || o.Rows == nil || o.Records == nil || o.Run == (delivery.Run{}) {
		return nil, errors.New("new replayer: log reader, decoder, rows, records and a run are needed")
	}
	return &Replayer{o}, nil
}

// Counts say what happened to deliveries, or would happen with Apply.
type Counts struct {
	Inserted  int           // got a row
	Revived   int           // had a dead row, which is pending again
	Waiting   int           // had a row that will be sent anyway, and is left as it is
	Delivered int           // had a row that is delivered; it is left as it is unless new IDs are asked for
	Halted    int           // had a row that a webfilter stopped, and is left as it is
	Unfit     int           // do not fit a row and are left out
	UnfitIDs  []delivery.ID // up to 10 of the unfit
}

// Total returns how many deliveries there were.
func (c *Counts) Total() int {
	return c.Inserted + c.Revived + c.Waiting + c.Delivered + c.Halted + c.Unfit
}

const (
	batchRows  = 500     // a batch is written when it has this many
	batchBytes = 4 << 20 // or bodies of this many bytes
	maxUnfit   = 10
	maxTries   = 7 // of a database that fails, over about 10 s
)

// batch gathers deliveries and makes rows of them, a few hundred at a time.
type batch struct {
	rows    Rows
	apply   bool
	fresh   bool // the IDs are new and have no rows unless this run has made them
	counts  Counts
	waiting []delivery.Delivery
	ids     map[delivery.ID]bool
	bytes   int
}

func (r *Replayer) newBatch(fresh bool) *batch {
	return &batch{rows: r.options.Rows, apply: r.options.Apply, fresh: fresh, ids: map[delivery.ID]bool{}}
}

// add adds a delivery. An ID that is already in the batch counts as waiting.
func (b *batch) add(ctx context.Context, d *delivery.Delivery) error {
	if b.ids[d.ID] {
		b.counts.Waiting++
		return nil
	}
	b.ids[d.ID] = true
	b.waiting = append(b.waiting, *d)
	if b.bytes += len(d.Body); len(b.waiting) < batchRows && b.bytes < batchBytes {
		return nil
	}
	return b.flush(ctx)
}

// flush makes rows of the deliveries added since the last flush. The counts are right after an
// error, too, except for rows of a statement whose answer was lost.
func (b *batch) flush(ctx context.Context) error {
	all := b.waiting
	b.waiting, b.bytes = nil, 0
	clear(b.ids)
	if len(all) == 0 {
		return nil
	}
	standings, err := b.standings(ctx, all)
	if err != nil {
		return err
	}
	var fresh, bare []delivery.Insert
	var dead []uint64
	for i := range all {
		in := delivery.Queue(&all[i], 0, delivery.ReasonReplay)
		switch at, exists := standings[all[i].ID]; {
		case !exists:
			fresh = append(fresh, in)
		case at.State == delivery.Dead && at.Kept:
			dead = append(dead, at.RowID)
		case at.State == delivery.Dead:
			bare = append(bare, in)
		case at.State == delivery.Delivered:
			b.counts.Delivered++
		case at.State == delivery.Halted:
			b.counts.Halted++
		default:
			b.counts.Waiting++
		}
	}
	if !b.apply {
		b.counts.Inserted += len(fresh)
		b.counts.Revived += len(dead) + len(bare)
		return nil
	}
	return errors.Join(
		b.write(ctx, len(fresh), &b.counts.Inserted, func() (int, error) {
			err := b.rows.Insert(ctx, fresh)
			if rejected, ok := errors.AsType[*delivery.RejectedError](err); ok {
				return len(fresh) - len(rejected.Rows), err
			}
			if err != nil {
				return 0, err
			}
			return len(fresh), nil
		}),
		b.write(ctx, len(bare), &b.counts.Revived, func() (int, error) { return b.rows.Restore(ctx, bare) }),
		b.write(ctx, len(dead), &b.counts.Revived, func() (int, error) { return b.rows.Replay(ctx, dead) }))
}

func (b *batch) standings(ctx context.Context, all []delivery.Delivery) (found map[delivery.ID]store.Standing, err error) {
	if b.fresh && !b.apply {
		return nil, nil
	}
	ids := make([]delivery.ID, len(all))
	for i := range all {
		ids[i] = all[i].ID
	}
	err = persist(ctx, func() (err error) {
		found, err = b.rows.Standings(ctx, ids)
		return err
	})
	return found, err
}

// write has do make rows, unless there are none, and adds to count how many it made. It counts the
// rows that do not fit; they are not an error.
func (b *batch) write(ctx context.Context, rows int, count *int, do func() (made int, err error)) error {
	if rows == 0 {
		return nil
	}
	err := persist(ctx, func() error {
		made, err := do()
		*count += made
		return err
	})
	rejected, ok := errors.AsType[*delivery.RejectedError](err)
	if !ok {
		return err
	}
	b.counts.Unfit += len(rejected.Rows)
	for _, row := range rejected.Rows {
		if len(b.counts.UnfitIDs) < maxUnfit {
			b.counts.UnfitIDs = append(b.counts.UnfitIDs, row.ID)
		}
	}
	return nil
}

// persist retries what fails: a broken connection must not end a replay that has run for an hour.
// Rows that do not fit are not retried, since that cannot help.
func persist(ctx context.Context, do func() error) error {
	var wait backoff.Backoff
	for try := 1; ; try++ {
		err := do()
		_, rejected := errors.AsType[*delivery.RejectedError](err)
		if err == nil || rejected || ctx.Err() != nil || try == maxTries || wait.Wait(ctx) != nil {
			return err
		}
	}
}
