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
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
)

type deliveriesReplayCommand struct {
	ruleSettings
	config.Bus // of the daemon; asked for with --from-topic and --new-id only
	selectionFlags
	jsonFlag

	IDs   []admin.DeliveryRef `arg:"" optional:"" name:"id" help:"Webhook-ids (msg_…) or ids of deliveries list."`
	State stateFlag           `placeholder:"dead" help:"All dead deliveries that the other flags leave; delivered ones with --new-id."`

	FromTopic bool `name:"from-topic" help:"All events for --rule that came to the topics from --since on, by the records' times."`
	NewID     bool `name:"new-id" help:"Under a new webhook-id. Where a row has no body any more, its event is read from the topics."`
	Yes       bool `help:"Do it. Without, the command only says how many there are."`
}

// check refuses ambiguous and impossible combinations of flags.
func (c *deliveriesReplayCommand) check(request *admin.Replay) error {
	byState := len(c.State.states) > 0
	switch {
	case c.FromTopic && (byState || len(c.IDs) > 0):
		return usagef("--from-topic takes neither ids nor --state: it makes the deliveries of all events, whatever rows there are")
	case c.FromTopic && (c.Rule == nil || c.Since == (timeFlag{})):
		return usagef("--from-topic: write --rule ID, whose deliveries to make, and --since TIME, from when on")
	case c.FromTopic:
		return nil
	case len(c.IDs) == 0 && !byState:
		return usagef("write the ids of the deliveries to replay, --state dead for all that are dead, or --from-topic for all events of a rule")
	}
	return request.Check()
}

// Run says how many deliveries would be replayed, and replays them if asked to.
func (c *deliveriesReplayCommand) Run(ctx context.Context, s *session) error {
	request := &admin.Replay{IDs: c.IDs, Selection: c.selection(c.State), NewID: c.NewID, Apply: c.Yes}
	if err := c.check(request); err != nil {
		return err
	}
	replay := func(a *admin.Admin) error { return s.replay(ctx, a, request, c.JSON) }
	switch {
	case c.FromTopic:
		return s.withTopics(ctx, &c.ruleSettings, &c.Bus, func(a *admin.Admin) error { return c.fromTopic(ctx, s, a) })
	case c.NewID:
		return s.withTopics(ctx, &c.ruleSettings, &c.Bus, replay)
	}
	return s.withDatabase(ctx, &c.Database, replay)
}

// replay replays rows and prints the result; of those that keep their ids the counts first.
func (s *session) replay(ctx context.Context, a *admin.Admin, r *admin.Replay, asJSON bool) error {
	r.Searching = func(events int) {
		fmt.Fprintf(s.Stderr, "webhook-dispatcher: searching the topics for %s\n", counted(events, "event", "events"))
	}
	if !asJSON {
		r.Counted = func(view *admin.ReplayView) {
			s.note(view.Note)
			fmt.Fprintf(s.Stdout, "%s can be replayed\n", counted(view.Replayable, "dead delivery", "dead deliveries"))
			s.printRefused(view)
			if len(r.IDs) == 0 && view.RefusedCount > 0 {
				fmt.Fprintf(s.Stdout, "%s no body to send\n", counted(view.RefusedCount, "dead delivery has", "dead deliveries have"))
			}
		}
	}
	view, err := a.Replay(ctx, r)
	switch {
	case view == nil:
		return err
	case asJSON:
		s.note(view.Note)
		for i := range view.Refused {
			view.Refused[i].Reason = refusal(&view.Refused[i])
		}
		err = errors.Join(err, s.printJSON(view))
	case r.NewID:
		s.printRenewed(view)
	case r.Apply && view.Replayable > 0:
		fmt.Fprintf(s.Stdout, "%s pending again\n", counted(view.Replayed, "delivery is", "deliveries are"))
	}
	if !asJSON && !r.Apply && view.Replayable > 0 {
		fmt.Fprintln(s.Stdout, notDone)
	}
	selected := len(r.IDs) == 0 && !r.NewID // what can be replayed, so leaving some out is not a failure
	if err != nil || selected || view.RefusedCount == 0 {
		return err
	}
	return fmt.Errorf("%s cannot be replayed", counted(view.RefusedCount, "delivery", "deliveries"))
}

func (s *session) printRenewed(view *admin.ReplayView) {
	s.note(view.Note)
	one, many := "delivery under a new id can be made", "deliveries under new ids can be made"
	if view.Applied {
		one, many = "delivery under a new id is pending", "deliveries under new ids are pending"
	}
	fmt.Fprintln(s.Stdout, counted(view.Replayable, one, many))
	s.printRefused(view)
	if more := view.RefusedCount - len(view.Refused); more > 0 {
		fmt.Fprintf(s.Stdout, "%d more cannot be replayed\n", more)
	}
}

const notDone = "nothing was done; add --yes to replay"

// refusal says why a delivery cannot be replayed.
func refusal(r *admin.Refused) string { return spell(explain(r.Cause)) }

func (p *Process) printRefused(view *admin.ReplayView) {
	for i := range view.Refused {
		r := &view.Refused[i]
		fmt.Fprintf(p.Stdout, "%s cannot be replayed: %s\n", r.Delivery, refusal(r))
	}
}

// fromTopic replays a rule's deliveries of the events that the topics still hold.
func (c *deliveriesReplayCommand) fromTopic(ctx context.Context, s *session, a *admin.Admin) error {
	view, err := a.ReplayTopics(ctx, &admin.TopicReplay{
		Rule: *c.Rule, Event: c.Event, Since: c.Since.Moment, Until: c.Until.Moment, NewID: c.NewID, Apply: c.Yes,
		Progress: progress(s.Stderr),
	})
	if view == nil {
		return err
	}
	if err != nil {
		err = fmt.Errorf("stopped after %d of %d offsets%s: %w", view.Read, view.Offsets, c.advice(), err)
	}
	if c.JSON {
		return errors.Join(s.printJSON(view), err)
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
	return err
}

// advice says, after a semicolon, what a replay leaves that was stopped.
func (c *deliveriesReplayCommand) advice() string {
	switch {
	case !c.Yes:
		return ""
	case c.NewID:
		return "; what has a row stays, and repeating the command sends it again under other ids"
	}
	return "; what has a row stays, and repeating the command makes the rest"
}

// progressPeriod is the time between two lines about a long run.
const progressPeriod = 5 * time.Second

// progress returns a function that says how far a replay has come, now and then.
func progress(w io.Writer) func(offsets, read int64, deliveries int) {
	last := time.Now()
	return func(offsets, read int64, deliveries int) {
		if time.Since(last) < progressPeriod {
			return
		}
		last = time.Now()
		found := counted(deliveries, "delivery", "deliveries")
		fmt.Fprintf(w, "webhook-dispatcher: %d of %d offsets read, %s so far\n", read, offsets, found)
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
