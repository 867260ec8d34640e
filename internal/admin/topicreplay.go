package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/replay"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// TopicReplay asks for a rule's deliveries of all events that the topics still hold.
type TopicReplay struct {
	Rule  int32  // the id of a webhook rule
	Event string // the rule's event, to make sure; may be empty
	// Since is required. Both are compared with the times at which records came to the topics.
	Since, Until Moment
	NewID        bool // under webhook-ids that no receiver has taken yet
	// Apply makes rows. Without, deliveries are counted and nothing is changed.
	Apply bool
	// Progress, where set, is called now and then while records are read: with how many offsets there
	// are to read, how many have been read, and how many deliveries were found so far.
	Progress func(offsets, read int64, deliveries int)
}

// TopicReplayView is the result of a replay from the topics.
type TopicReplayView struct {
	Applied         bool            `json:"applied"`  // false: the deliveries were only counted
	Complete        bool            `json:"complete"` // false: it was stopped, and the numbers are of what was done
	RuleID          int32           `json:"rule_id"`
	EventType       string          `json:"event_type"`
	Since           time.Time       `json:"since"`
	Until           *time.Time      `json:"until"` // null: the ends of the topics
	Partitions      []PartitionView `json:"partitions"`
	AbsentTopics    []string        `json:"absent_topics"`     // named in the settings, but missing
	Records         int             `json:"records"`           // in the time range
	Events          int             `json:"events"`            // records that the rule wants
	Inserted        int             `json:"inserted"`          // deliveries that get a row
	Revived         int             `json:"revived"`           // dead rows that are pending again
	AlreadyWaiting  int             `json:"already_waiting"`   // left as they are: they will be sent
	Delivered       int             `json:"already_delivered"` // left as they are, without NewID
	Halted          int             `json:"halted"`            // left as they are
	Unfit           int             `json:"unfit"`             // do not fit a row
	Undecodable     map[string]int  `json:"undecodable"`       // records that cannot be read, by reason
	RuleRowsWaiting int             `json:"rule_rows_waiting"` // of the rule, afterwards

	UnfitIDs []string `json:"-"` // webhook-ids of some that do not fit a row
	Hold     string   `json:"-"` // why the rows wait though the rule is not paused, or empty
	Paused   bool     `json:"-"` // the rows wait until the rule is resumed
	// Offsets and Read are how many offsets there were to read, and how many have been read.
	Offsets, Read int64 `json:"-"`
}

// PartitionView is what was read of a partition.
type PartitionView struct {
	Topic     string     `json:"topic"`
	Partition int        `json:"partition"`
	From      int64      `json:"from_offset"`
	To        int64      `json:"to_offset"`   // not included
	Next      int64      `json:"next_offset"` // where to go on
	Oldest    *time.Time `json:"oldest"`      // of the first record, where the topic has lost older ones; else null
	Lost      int64      `json:"lost"`        // offsets that the topic's retention removed before they were read
}

// ReplayTopics counts the deliveries that the rule has of events in the topics, and with Apply
// makes them pending. After an error the view, where there is one, holds what was done before; what
// has a row by then stays. Without NewID it is right to do it all again, which then makes the rest.
// A rule that does not exist is a *NotFoundError, one that sends nothing a *RuleStateError.
func (a *Admin) ReplayTopics(ctx context.Context, r *TopicReplay) (*TopicReplayView, error) {
	rules, err := a.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	e, err := webhook(rules, r.Rule)
	if err != nil {
		return nil, err
	}
	to := e.Rule
	selected, err := a.resolve(ctx, &Selection{Event: r.Event, Since: r.Since, Until: r.Until})
	switch {
	case err != nil:
		return nil, err
	case selected.Since.IsZero():
		return nil, &Problem{Field: "since", Reason: "it is missing", Fix: "write from when on to replay events"}
	case selected.EventType != "" && selected.EventType != to.EventType:
		return nil, &Problem{Field: "event", Reason: fmt.Sprintf("rule %d wants %s", to.ID, to.EventType), Fix: "leave it out"}
	}
	replayer, err := a.newReplayer(r.Apply)
	if err != nil {
		return nil, err
	}
	choice := replay.Choice{Rule: to, Since: selected.Since, Until: selected.Until, Renew: r.NewID}
	if r.Progress != nil {
		choice.Progress = func(report *replay.Report) {
			offsets, read := report.Offsets()
			r.Progress(offsets, read, report.Total())
		}
	}
	report, err := replayer.FromTopics(ctx, choice)
	if len(report.Parts) == 0 {
		return nil, cmp.Or(err, errors.New("none of the topics exists: see WEBHOOK_DISPATCHER_TOPICS and EVENT_BUS_TOPIC_PREFIX"))
	}
	view := viewTopics(&choice, report)
	if err == nil {
		view.RuleRowsWaiting, err = a.o.Store.Waiting(ctx, to.Lane())
	}
	view.Applied, view.Complete = r.Apply, err == nil
	view.Hold, view.Paused = e.Hold, e.Status() == rule.Paused
	return view, err
}

func viewTopics(choice *replay.Choice, report *replay.Report) *TopicReplayView {
	v := &TopicReplayView{
		RuleID: choice.Rule.ID, EventType: choice.Rule.EventType, Since: choice.Since.UTC(), Until: orNull(choice.Until),
		Partitions: views(report.Parts, viewPartition), AbsentTopics: append([]string{}, report.Absent...), Records: report.Records,
		Events: report.Matched, Inserted: report.Inserted, Revived: report.Revived, AlreadyWaiting: report.Waiting,
		Delivered: report.Delivered, Halted: report.Halted, Unfit: report.Unfit, Undecodable: map[string]int{},
	}
	v.Offsets, v.Read = report.Offsets()
	for _, id := range report.UnfitIDs {
		v.UnfitIDs = append(v.UnfitIDs, id.String())
	}
	for reason, n := range report.Undecodable {
		v.Undecodable[string(reason)] = n
	}
	return v
}

func viewPartition(p *replay.Part) PartitionView {
	return PartitionView{p.Topic, p.Partition, int64(p.From), int64(p.To), int64(p.Next), orNull(p.Oldest), p.Lost}
}
