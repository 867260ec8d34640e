package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
)

type undecodableReplayCommand struct {
	ruleSettings
	config.Bus
	reasonFlag

	IDs  []uint64 `arg:"" optional:"" name:"id" help:"Records' ids of undecodable list."`
	All  bool     `help:"All records."`
	Yes  bool     `help:"Do it. Without, the command only says which records can be read now."`
	JSON bool     `help:"Print one JSON document." name:"json"`
}

// Run says which records can be read now, and has their deliveries sent if asked to.
func (c *undecodableReplayCommand) Run(ctx context.Context, s *session) error {
	request := &admin.UndecodableReplay{IDs: c.IDs, Reason: c.Reason, All: c.All, Apply: c.Yes}
	if err := errors.Join(request.Check(), s.settings(ctx, append(c.groups(), &c.Bus)...)); err != nil {
		return err
	}
	return s.withTopics(&c.ruleSettings, &c.Bus, func(a *admin.Admin) error {
		view, err := a.ReplayUndecodable(ctx, request)
		if view == nil {
			return err
		}
		if printErr := s.printRecordReplay(view, c.JSON); printErr != nil || err != nil {
			return errors.Join(err, printErr)
		}
		if n := view.StayCount; n > 0 {
			return fmt.Errorf("%s", counted(n, "record cannot be replayed and stays", "records cannot be replayed and stay"))
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
	records, deliveries := counted(v.Records, "record", "records"), counted(v.Deliveries, "delivery", "deliveries")
	if v.Applied {
		fmt.Fprintf(p.Stdout, "%s replayed and removed, %s pending\n", records, deliveries)
	} else {
		fmt.Fprintf(p.Stdout, "%s can be read now and would make %s\n", records, deliveries)
	}
	if v.Unmatched > 0 {
		what := "would be removed"
		if v.Applied {
			what = "removed"
		}
		fmt.Fprintf(p.Stdout, "of these, %s by no rule: %s without a delivery\n", counted(v.Unmatched, "is wanted", "are wanted"), what)
	}
	if v.Gone > 0 {
		fmt.Fprintf(p.Stdout, "%s not there\n", counted(v.Gone, "record is", "records are"))
	}
	for _, stay := range v.Stay {
		fmt.Fprintf(p.Stdout, "record %d stays: %s\n", stay.ID, stay.Why)
	}
	if more := v.StayCount - len(v.Stay); more > 0 {
		fmt.Fprintf(p.Stdout, "%s\n", counted(more, "more record stays", "more records stay"))
	}
	if !v.Applied && v.Records > 0 {
		fmt.Fprintln(p.Stdout, notDone)
	}
	return nil
}
