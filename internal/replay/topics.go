package replay

import (
	"context"
	"fmt"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/plan"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/event"
)

// Choice says which events of the topics are sent again, and to whom.
type Choice struct {
	Rule *rule.Rule
	// Since is the first moment to replay and Until the first that no longer counts, both by the
	// times at which records came to their topics. That is what a receiver saw; the event's own
	// time may be earlier. A zero Until stands for the end.
	Since, Until time.Time
	Renew        bool          // a new ID for every delivery, so that a receiver that remembers the old one takes it
	Progress     func(*Report) // is called now and then with the report so far; may be nil
}

// Part is what was read of a partition.
type Part struct {
	bus.Range
	Oldest time.Time    // of the first record if the topic has lost older ones, else zero
	Next   bus.Position // where to go on, To when all was read
	Lost   int64        // offsets that the topic's retention removed before they were read
}

// Report is the result of a replay from the topics, complete or not.
type Report struct {
	Counts
	Parts   []Part
	Absent  []string // topics that are named in the settings and do not exist
	Records int      // in the time range
	Matched int      // of these, with the rule's event type
	// Undecodable counts the records in the time range that cannot be decoded and are left out.
	Undecodable map[decode.Reason]int
}

// Offsets returns how many offsets there are to read, and how many of them have been.
func (r *Report) Offsets() (all, read int64) {
	for _, p := range r.Parts {
		all += int64(p.To - p.From)
		read += int64(p.Next - p.From)
	}
	return all, read
}

// progressEvery is the number of records between two calls of Choice.Progress.
const progressEvery = 1000

// FromTopics reads the topics from Since to the ends that they have at the start, and makes the
// rule's delivery of each event. The report says what was done, after an error, too. Rows that were
// made by then stay, and it is right to do it all again.
func (r *Replayer) FromTopics(ctx context.Context, c Choice) (*Report, error) {
	ranges, absent, err := r.options.Log.Ranges(ctx, c.Since)
	report := &Report{Absent: absent, Undecodable: map[decode.Reason]int{}}
	if err != nil {
		return report, err
	}
	for _, one := range ranges {
		report.Parts = append(report.Parts, Part{Range: one, Next: one.From})
	}
	c.Rule = c.Rule.Always() // also events of a time in which the plugin had the rule
	rows := r.newBatch(c.Renew)
	for i := range report.Parts {
		if err := r.readPart(ctx, &c, rows, report, i); err != nil {
			return report, err
		}
	}
	return report, nil
}

func (r *Replayer) readPart(ctx context.Context, c *Choice, rows *batch, report *Report, i int) error {
	part := &report.Parts[i]
	seen := 0
	lost, err := r.options.Log.Read(ctx, part.Range, func(rec *bus.Record) error {
		if seen == 0 && part.From == part.Start && part.Start > 0 {
			part.Oldest = rec.Time
		}
		if err := r.take(ctx, c, rows, report, rec); err != nil {
			return fmt.Errorf("%s, partition %d, offset %d: %w", rec.Topic, rec.Partition, rec.Position, err)
		}
		if len(rows.waiting) == 0 { // all records up to here have been written
			part.Next = rec.Position + 1
		}
		if seen++; seen%progressEvery == 0 && c.Progress != nil {
			report.Counts = rows.counts
			c.Progress(report)
		}
		return nil
	})
	part.Lost = lost
	if err == nil {
		err = rows.flush(ctx)
	}
	if err == nil {
		part.Next = part.To
	}
	report.Counts = rows.counts
	return err
}

func (r *Replayer) take(ctx context.Context, c *Choice, rows *batch, report *Report, rec *bus.Record) error {
	if rec.Time.Before(c.Since) || !c.Until.IsZero() && !rec.Time.Before(c.Until) {
		return nil
	}
	report.Records++
	message, bad, err := r.decode(ctx, rec, func(ev *event.Event) bool { return ev.Type == c.Rule.EventType })
	if bad != nil && (!r.options.AllTopics || bad.Reason != decode.ReasonNoType) {
		report.Undecodable[bad.Reason]++
	}
	if message == nil {
		return err
	}
	report.Matched++
	planned := plan.Deliveries(message, []*rule.Rule{c.Rule})
	for i := range planned {
		if c.Renew {
			planned[i].ID = delivery.Renew(planned[i].ID, r.options.Run)
		}
		if err := rows.add(ctx, &planned[i]); err != nil {
			return err
		}
	}
	return nil
}
