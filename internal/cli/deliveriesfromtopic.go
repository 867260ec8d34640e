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

	"github.com/openedx-webhooks/webhook-dispatcher/internal/replay"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// topicReplayView is the result of a replay from the topics as JSON.
type topicReplayView struct {
	Applied         bool           `json:"applied"`  // false: --yes was not given, and nothing was done
	Complete        bool           `json:"complete"` // false: it was stopped, and the numbers are of what was done
	RuleID          int32          `json:"rule_id"`
	EventType       string         `json:"event_type"`
	Since           time.Time      `json:"since"`
	Until           *time.Time     `json:"until"` // null: the ends of the topics
	Partitions      []partView     `json:"partitions"`
	AbsentTopics    []string       `json:"absent_topics"`     // named in the settings, and not there
	Records         int            `json:"records"`           // of the time range
	Events          int            `json:"events"`            // of these, those that the rule wants
	Inserted        int            `json:"inserted"`          // deliveries that get a row
	Revived         int            `json:"revived"`           // dead rows that are pending again
	AlreadyWaiting  int            `json:"already_waiting"`   // left: sent anyway
	Delivered       int            `json:"already_delivered"` // left, for want of --new-id
	Halted          int            `json:"halted"`            // left
	Unfit           int            `json:"unfit"`             // do not fit a row
	Undecodable     map[string]int `json:"undecodable"`       // records that cannot be read, by reason
	RuleRowsWaiting int            `json:"rule_rows_waiting"` // of the rule, afterwards
}

type partView struct {
	Topic     string     `json:"topic"`
	Partition int        `json:"partition"`
	From      int64      `json:"from_offset"`
	To        int64      `json:"to_offset"`   // not included
	Next      int64      `json:"next_offset"` // where it came to
	Oldest    *time.Time `json:"oldest"`      // the first record, where the topic has lost older ones; else null
	Lost      int64      `json:"lost"`        // offsets removed by the topic's retention while they were to be read
}

// fromTopic makes the rule's deliveries of the events that the topics still hold.
func (c *deliveriesReplayCommand) fromTopic(ctx context.Context, s *session, st *store.Store) error {
	rules, err := readRules(ctx, st, &c.ruleSettings)
	if err != nil {
		return err
	}
	e, err := rules.entry(rule.Key{Table: rule.Webhooks, ID: *c.Rule})
	if err != nil {
		return err
	}
	to, err := usable(e)
	if err != nil {
		return err
	}
	f, _, err := c.filter(ctx, st)
	if err != nil {
		return err
	}
	if f.EventType != "" && f.EventType != to.EventType {
		return usagef("--event %s: rule %d wants %s; leave the flag out", c.Event, to.ID, to.EventType)
	}
	choice := replay.Choice{Rule: to, Since: f.Since, Until: f.Until, Renew: c.NewID, Progress: progress(s.Stderr)}
	return withReplayer(&c.Bus, st, c.Yes, func(r *replay.Replayer) error {
		report, err := r.FromTopics(ctx, choice)
		if len(report.Parts) == 0 && err == nil {
			return errors.New("none of the topics exists: see WEBHOOK_DISPATCHER_TOPICS and EVENT_BUS_TOPIC_PREFIX")
		}
		if len(report.Parts) == 0 {
			return err
		}
		waiting := -1
		if err == nil {
			if waiting, err = st.Waiting(ctx, to.Lane()); err != nil {
				return err
			}
		}
		if c.JSON {
			return errors.Join(s.printJSON(c.viewTopics(&choice, report, waiting, err == nil)), c.stopped(report, err))
		}
		c.printTopics(s, &choice, report, waiting)
		switch {
		case e.Hold != "":
			fmt.Fprintf(s.Stdout, "nothing is sent to rule %d, and its rows wait: %s\n", to.ID, e.Hold)
		case e.Status() == rule.Paused:
			fmt.Fprintf(s.Stdout, "rule %d is paused: its rows wait until webhook-dispatcher rules set %d --resume\n", to.ID, to.ID)
		}
		if !c.Yes && err == nil && report.Inserted+report.Revived > 0 {
			fmt.Fprintln(s.Stdout, notDone)
		}
		return c.stopped(report, err)
	})
}

// stopped says how far a replay came that err has ended.
func (c *deliveriesReplayCommand) stopped(report *replay.Report, err error) error {
	if err == nil {
		return nil
	}
	all, read := report.Offsets()
	text := fmt.Sprintf("stopped after %d of %d offsets", read, all)
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

// progress returns a function that tells how far a replay has come, now and then.
func progress(w io.Writer) func(*replay.Report) {
	last := time.Now()
	return func(report *replay.Report) {
		if time.Since(last) < progressPeriod {
			return
		}
		last = time.Now()
		all, read := report.Offsets()
		fmt.Fprintf(w, "webhook-dispatcher: %d of %d offsets read, %s so far\n", read, all, counted(report.Total(), "delivery", "deliveries"))
	}
}

func (c *deliveriesReplayCommand) printTopics(s *session, choice *replay.Choice, report *replay.Report, waiting int) {
	line := func(n int, one, many, rest string) {
		if n > 0 {
			fmt.Fprintf(s.Stdout, "%s%s\n", counted(n, one, many), rest)
		}
	}
	until := "the end"
	if !choice.Until.IsZero() {
		until = moment(choice.Until)
	}
	fmt.Fprintf(s.Stdout, "rule %d, %s, from %s to %s\n", choice.Rule.ID, choice.Rule.EventType, moment(choice.Since), until)
	for _, p := range report.Parts {
		fmt.Fprintf(s.Stdout, "%s, partition %d: offsets %d to %d", p.Topic, p.Partition, p.From, p.To)
		if !p.Oldest.IsZero() && p.Oldest.After(choice.Since) {
			fmt.Fprintf(s.Stdout, "; nothing before %s is in the topic any more", moment(p.Oldest))
		}
		if p.Lost > 0 {
			fmt.Fprintf(s.Stdout, "; %s removed by the topic's retention meanwhile", counted(int(p.Lost), "offset was", "offsets were"))
		}
		fmt.Fprintln(s.Stdout)
	}
	for _, t := range report.Absent {
		fmt.Fprintf(s.Stdout, "topic %s does not exist\n", t)
	}
	fmt.Fprintf(s.Stdout, "%s, %d of them for the rule\n", counted(report.Records, "record", "records"), report.Matched)
	if c.Yes {
		fmt.Fprintf(s.Stdout, "%s pending\n", counted(report.Inserted, "delivery is", "deliveries are"))
		line(report.Revived, "dead delivery is", "dead deliveries are", " pending again")
	} else {
		fmt.Fprintf(s.Stdout, "%s be made\n", counted(report.Inserted, "delivery would", "deliveries would"))
		line(report.Revived, "dead delivery", "dead deliveries", " would be pending again")
	}
	line(report.Waiting, "delivery waits", "deliveries wait", " already and will be sent: left")
	line(report.Delivered, "delivery was", "deliveries were", " taken within the last day: left; --new-id sends them again")
	line(report.Halted, "delivery was", "deliveries were", " stopped by a filter: left")
	line(report.Unfit, "delivery does", "deliveries do", " not fit a row: left out")
	for _, id := range report.UnfitIDs {
		fmt.Fprintf(s.Stdout, "%s does not fit a row\n", id)
	}
	if n := sum(report.Undecodable); n > 0 {
		var reasons []string
		for _, reason := range slices.Sorted(maps.Keys(report.Undecodable)) {
			reasons = append(reasons, fmt.Sprintf("%s %d", reason, report.Undecodable[reason]))
		}
		line(n, "record", "records", fmt.Sprintf(" cannot be read (%s): left out; see undecodable list", strings.Join(reasons, ", ")))
	}
	if waiting >= 0 {
		fmt.Fprintf(s.Stdout, "%s of rule %d now\n", counted(waiting, "delivery waits as a row", "deliveries wait as rows"), choice.Rule.ID)
	}
}

func sum[K comparable](counts map[K]int) (n int) {
	for _, one := range counts {
		n += one
	}
	return n
}

func (c *deliveriesReplayCommand) viewTopics(choice *replay.Choice, report *replay.Report, waiting int, complete bool) topicReplayView {
	v := topicReplayView{
		Applied: c.Yes, Complete: complete, RuleID: choice.Rule.ID, EventType: choice.Rule.EventType, Since: choice.Since.UTC(),
		Until: orNull(choice.Until), Partitions: []partView{}, AbsentTopics: append([]string{}, report.Absent...), Records: report.Records,
		Events: report.Matched, Inserted: report.Inserted, Revived: report.Revived, AlreadyWaiting: report.Waiting,
		Delivered: report.Delivered, Halted: report.Halted, Unfit: report.Unfit, Undecodable: map[string]int{},
		RuleRowsWaiting: max(waiting, 0),
	}
	for reason, n := range report.Undecodable {
		v.Undecodable[string(reason)] = n
	}
	for _, p := range report.Parts {
		v.Partitions = append(v.Partitions, partView{
			Topic: p.Topic, Partition: p.Partition, From: int64(p.From), To: int64(p.To), Next: int64(p.Next), Oldest: orNull(p.Oldest), Lost: p.Lost,
		})
	}
	return v
}
