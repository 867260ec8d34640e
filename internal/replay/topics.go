package replay

import (
	"context"
	"fmt"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/plan"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// Choice says which events of the topics are sent again, and to whom.
type Choice struct {
	Rule *rule.Rule
	// Since is the first moment that counts and Until the first that no longer does, both by the records' times: when an event came to
	// its topic. That is what a receiver saw; the event's own time may be earlier. A zero Until stands for the end.
	Since, Until time.Time
	// Renew gives every delivery an ID of its own, so that a receiver that remembers the old ones takes it.
	Renew bool
	// Progress, where set, is called now and then with what has been done so far.
	Progress func(*Report)
}

// Part is what was read of a partition.
type Part struct {
	bus.Range
	// Oldest is the time of the first record, where older ones are no longer in the topic; zero else.
	Oldest time.Time
	// Next is the offset to go on at; To when all was read.
	Next bus.Position
	// Lost is how many offsets the topic's retention removed while they were to be read.
	Lost int64
}

// Report is what came of a replay from the topics, complete or not.
type Report struct {
	Counts
	Parts  []Part
	Absent []string // topics that are named and do not exist
	// Records counts those of the time range, Matched those of them that have the rule's event type.
	Records, Matched int
	// Undecodable counts records of the time range that cannot be read, by reason; they are left out.
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

// FromTopics reads the topics from Since on to their ends as they are at the start and makes the rule's delivery of each event. The report
// tells what was done; after an error, too. What is in rows then stays, and doing it all again is right.
func (r *Replayer) FromTopics(ctx context.Context, c Choice) (*Report, error) {
	report := &Report{Undecodable: map[decode.Reason]int{}}
	ranges, absent, err := r.options.Log.Ranges(ctx, c.Since)
	if err != nil {
		return report, err
	}
	report.Absent = absent
	for _, one := range ranges {
		report.Parts = append(report.Parts, Part{Range: one, Next: one.From})
	}
	c.Rule = c.Rule.Always() // events of a time in which it was not the dispatcher's are asked for as well
	rows := r.newBatch(c.Renew)
	for i := range report.Parts {
		if err := r.readPart(ctx, &c, rows, report, i); err != nil {
			report.Counts = rows.counts
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
		if len(rows.waiting) == 0 { // all up to here has been written
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
	report.Counts = rows.counts
	if err == nil {
		part.Next = part.To
	}
	return err
}

func (r *Replayer) take(ctx context.Context, c *Choice, rows *batch, report *Report, rec *bus.Record) error {
	if rec.Time.Before(c.Since) || !c.Until.IsZero() && !rec.Time.Before(c.Until) {
		return nil
	}
	report.Records++
	ev, err := r.decoder.Envelope(rec)
	if err == nil && ev.Type != c.Rule.EventType {
		return nil
	}
	var message *payload.Message
	if err == nil {
		message, err = r.decoder.Message(ctx, rec, ev)
	}
	if bad, ok := decode.AsUndecodable(err); ok {
		if !r.options.Everything || bad.Reason != decode.ReasonNoType {
			report.Undecodable[bad.Reason]++
		}
		return nil
	}
	if err != nil {
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
