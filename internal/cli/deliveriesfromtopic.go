package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
)

// fromTopic replays a rule's deliveries of the events that the topics still hold.
func (c *deliveriesReplayCommand) fromTopic(ctx context.Context, s *session, a *admin.Admin) error {
	view, err := a.ReplayTopics(ctx, &admin.TopicReplay{
		Rule: *c.Rule, Event: c.Event, Since: c.Since.Moment, Until: c.Until.Moment, NewID: c.NewID, Apply: c.Yes,
		Progress: progress(s.Stderr),
	})
	switch {
	case view == nil:
		return err
	case c.JSON:
		return errors.Join(s.printJSON(view), c.stopped(view, err))
	}
	s.printTopics(view)
	switch {
	case view.Hold != "":
		fmt.Fprintf(s.Stdout, "nothing is sent to rule %d, and its rows wait: %s\n", view.RuleID, view.Hold)
	case view.Paused:
		fmt.Fprintf(s.Stdout, "rule %d is paused: its rows wait until webhook-dispatcher rules set %[1]d --resume\n", view.RuleID)
	}
	if !c.Yes && err == nil && view.Inserted+view.Revived > 0 {
		fmt.Fprintln(s.Stdout, notDone)
	}
	return c.stopped(view, err)
}

// stopped says how far a replay came that err has ended.
func (c *deliveriesReplayCommand) stopped(view *admin.TopicReplayView, err error) error {
	if err == nil {
		return nil
	}
	text := fmt.Sprintf("stopped after %d of %d offsets", view.Read, view.Offsets)
	switch {
	case !c.Yes:
	case c.NewID:
		text += "; what has a row stays, and repeating the command sends it again under other ids"
	default:
		text += "; what has a row stays, and repeating the command makes the rest"
	}
	return fmt.Errorf("%s: %w", text, err)
}

// progressPeriod is the time between two lines about a long run.
const progressPeriod = 5 * time.Second

// progress returns a function that says how far a replay has come, now and then.
func progress(w io.Writer) func(admin.TopicProgress) {
	last := time.Now()
	return func(p admin.TopicProgress) {
		if time.Since(last) < progressPeriod {
			return
		}
		last = time.Now()
		fmt.Fprintf(w, "webhook-dispatcher: %d of %d offsets read, %s so far\n",
			p.Read, p.Offsets, counted(p.Deliveries, "delivery", "deliveries"))
	}
}

func (p *Process) printTopics(v *admin.TopicReplayView) {
	line := func(n int, one, many, rest string) {
		if n > 0 {
			fmt.Fprintf(p.Stdout, "%s%s\n", counted(n, one, many), rest)
		}
	}
	until := "the end"
	if v.Until != nil {
		until = moment(*v.Until)
	}
	fmt.Fprintf(p.Stdout, "rule %d, %s, from %s to %s\n", v.RuleID, v.EventType, moment(v.Since), until)
	for _, part := range v.Partitions {
		fmt.Fprintf(p.Stdout, "%s, partition %d: offsets %d to %d", part.Topic, part.Partition, part.From, part.To)
		if part.Oldest != nil && part.Oldest.After(v.Since) {
			fmt.Fprintf(p.Stdout, "; nothing before %s is in the topic any more", moment(*part.Oldest))
		}
		if part.Lost > 0 {
			fmt.Fprintf(p.Stdout, "; %s removed by the topic's retention meanwhile", counted(int(part.Lost), "offset was", "offsets were"))
		}
		fmt.Fprintln(p.Stdout)
	}
	for _, t := range v.AbsentTopics {
		fmt.Fprintf(p.Stdout, "topic %s does not exist\n", t)
	}
	fmt.Fprintf(p.Stdout, "%s, %d of them for the rule\n", counted(v.Records, "record", "records"), v.Events)
	if v.Applied {
		fmt.Fprintf(p.Stdout, "%s pending\n", counted(v.Inserted, "delivery is", "deliveries are"))
		line(v.Revived, "dead delivery is", "dead deliveries are", " pending again")
	} else {
		fmt.Fprintf(p.Stdout, "%s be made\n", counted(v.Inserted, "delivery would", "deliveries would"))
		line(v.Revived, "dead delivery", "dead deliveries", " would be pending again")
	}
	line(v.AlreadyWaiting, "delivery waits", "deliveries wait", " already and will be sent: left")
	line(v.Delivered, "delivery was", "deliveries were", " taken within the last day: left; --new-id sends them again")
	line(v.Halted, "delivery was", "deliveries were", " stopped by a filter: left")
	line(v.Unfit, "delivery does", "deliveries do", " not fit a row: left out")
	for _, id := range v.UnfitIDs {
		fmt.Fprintf(p.Stdout, "%s does not fit a row\n", id)
	}
	var reasons []string
	unread := 0
	for _, reason := range slices.Sorted(maps.Keys(v.Undecodable)) {
		reasons = append(reasons, fmt.Sprintf("%s %d", reason, v.Undecodable[reason]))
		unread += v.Undecodable[reason]
	}
	line(unread, "record", "records", fmt.Sprintf(" cannot be read (%s): left out; see undecodable list", strings.Join(reasons, ", ")))
	if v.Complete {
		fmt.Fprintf(p.Stdout, "%s of rule %d now\n", counted(v.RuleRowsWaiting, "delivery waits as a row", "deliveries wait as rows"), v.RuleID)
	}
}
