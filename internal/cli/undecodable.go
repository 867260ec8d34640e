package cli

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
)

// reasonFlag selects records.
type reasonFlag struct {
	Reason string `placeholder:"REASON" help:"Only records kept for this reason, such as unknown_schema."`
}

type undecodableListCommand struct {
	config.Database
	limitFlag
	reasonFlag
	jsonFlag
}

// Run lists records.
func (c *undecodableListCommand) Run(ctx context.Context, s *session) error {
	return s.withDatabase(ctx, &c.Database, func(a *admin.Admin) error {
		list, err := a.Undecodable(ctx, c.Reason, c.Limit)
		if err != nil {
			return err
		}
		c.noteMore(s.Process, list.More, "--reason")
		const head = "ID, TOPIC, PARTITION, OFFSET, TIME, REASON, VALUE SIZE, KEPT"
		return printList(s.Process, c.JSON, head, list.Records, func(v *admin.RecordView) []any {
			return []any{v.ID, v.Topic, v.Partition, v.Offset, v.Time, v.Reason, v.ValueSize, v.CreatedAt}
		})
	})
}

type undecodableShowCommand struct {
	config.Database
	jsonFlag

	ID    uint64 `arg:"" help:"The record's id of undecodable list."`
	Value bool   `help:"Also show key and value, as base64; they hold learners' data."`
}

// Run shows one record.
func (c *undecodableShowCommand) Run(ctx context.Context, s *session) error {
	return s.withDatabase(ctx, &c.Database, func(a *admin.Admin) error {
		detail, err := a.UndecodableRecord(ctx, c.ID, c.Value)
		if err != nil {
			return err
		}
		return s.printDetail(c.JSON, detail, recordPairs(detail))
	})
}

// recordPairs are the lines of a record shown as text.
func recordPairs(v *admin.RecordDetail) pairs {
	lines := pairs{
		"id", v.ID, "topic", v.Topic, "partition", v.Partition, "offset", v.Offset, "time", v.Time, "reason", v.Reason,
		"key size", v.KeySize, "value size", v.ValueSize, "value kept", v.ValueKept, "kept since", v.CreatedAt,
	}
	for _, h := range v.Headers {
		lines = append(lines, "header "+h.Key, string(h.Value))
	}
	if v.RecordContent != nil {
		text := base64.StdEncoding.EncodeToString
		lines = append(lines, "key as base64", text(v.Key), "value as base64", text(v.Value))
	}
	return lines
}

type undecodableReplayCommand struct {
	ruleSettings
	config.Bus
	reasonFlag
	jsonFlag

	IDs []uint64 `arg:"" optional:"" name:"id" help:"Records' ids of undecodable list."`
	All bool     `help:"All records."`
	Yes bool     `help:"Do it. Without, the command only says which records can be read now."`
}

// Run says which records can be read now, and has their deliveries sent if asked to.
func (c *undecodableReplayCommand) Run(ctx context.Context, s *session) error {
	request := &admin.UndecodableReplay{IDs: c.IDs, Reason: c.Reason, All: c.All, Apply: c.Yes}
	if err := request.Check(); err != nil {
		return err
	}
	return s.withTopics(ctx, &c.ruleSettings, &c.Bus, func(a *admin.Admin) error {
		view, err := a.ReplayUndecodable(ctx, request)
		if view == nil {
			return err
		}
		if printErr := s.printRecordReplay(view, c.JSON); printErr != nil || err != nil {
			return errors.Join(err, printErr)
		}
		if n := view.StayCount; n > 0 {
			return errors.New(counted(n, "record cannot be replayed and stays", "records cannot be replayed and stay"))
		}
		if n := view.Gone; n > 0 && len(c.IDs) > 0 {
			return fmt.Errorf("%s not there; see undecodable list", counted(n, "record is", "records are"))
		}
		return nil
	})
}

func (p *Process) printRecordReplay(v *admin.UndecodableReplayView, asJSON bool) error {
	if asJSON {
		return p.printJSON(v)
	}
	done, removed := "%s can be read now and would make %s\n", "would be removed"
	if v.Applied {
		done, removed = "%s replayed and removed, %s pending\n", "removed"
	}
	fmt.Fprintf(p.Stdout, done, counted(v.Records, "record", "records"), counted(v.Deliveries, "delivery", "deliveries"))
	if v.Unmatched > 0 {
		fmt.Fprintf(p.Stdout, "of these, %s by no rule: %s without a delivery\n", counted(v.Unmatched, "is wanted", "are wanted"), removed)
	}
	if v.Gone > 0 {
		fmt.Fprintf(p.Stdout, "%s not there\n", counted(v.Gone, "record is", "records are"))
	}
	for _, stay := range v.Stay {
		fmt.Fprintf(p.Stdout, "record %d stays: %s\n", stay.ID, stay.Why)
	}
	if more := v.StayCount - len(v.Stay); more > 0 {
		fmt.Fprintln(p.Stdout, counted(more, "more record stays", "more records stay"))
	}
	if !v.Applied && v.Records > 0 {
		fmt.Fprintln(p.Stdout, notDone)
	}
	return nil
}
