package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/replay"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
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

func (c *undecodableReplayCommand) check() error {
	ways := 0
	for _, given := range [...]bool{len(c.IDs) > 0, c.Reason != "", c.All} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		return usagef("write the ids of the records to replay, or --reason REASON, or --all")
	}
	return c.reasonFlag.check()
}

// repairView is the result as JSON.
type repairView struct {
	Applied    bool       `json:"applied"`    // false: --yes was not given, and nothing was done
	Records    int        `json:"records"`    // that can be read now, and are removed
	Deliveries int        `json:"deliveries"` // that they make
	Unmatched  int        `json:"unmatched"`  // of the records, those that no rule wants
	Gone       int        `json:"gone"`       // records that are not there
	StayCount  int        `json:"stay_count"` // records that cannot be read, or not be replayed, and stay
	Stay       []stayView `json:"stay"`       // they, or the first 100 of them
}

type stayView struct {
	ID  uint64 `json:"id"`
	Why string `json:"why"`
}

// maxStay bounds those records of a choice that are named.
const maxStay = 100

// Run says which records can be read now, and has their deliveries sent if asked to.
func (c *undecodableReplayCommand) Run(ctx context.Context, s *session) error {
	if err := errors.Join(c.check(), s.settings(ctx, append(c.groups(), &c.Bus)...)); err != nil {
		return err
	}
	return s.withStore(&c.Database, func(st *store.Store) error {
		rules, err := readRules(ctx, st, &c.ruleSettings)
		if err != nil {
			return err
		}
		return withReplayer(&c.Bus, st, c.Yes, func(r *replay.Replayer) error {
			view := &repairView{Applied: c.Yes, Stay: []stayView{}}
			err := c.each(ctx, st, func(id uint64) error {
				outcome, err := r.Redeliver(ctx, id, rules.Snapshot)
				if err != nil {
					return fmt.Errorf("undecodable record %d: %w", id, err)
				}
				view.add(id, &outcome)
				return nil
			})
			if printErr := c.print(s, view); printErr != nil || err != nil {
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
	})
}

// each calls do for all records that are meant, those that are kept from now on left out.
func (c *undecodableReplayCommand) each(ctx context.Context, st *store.Store, do func(id uint64) error) error {
	if len(c.IDs) > 0 {
		seen := map[uint64]bool{}
		for _, id := range c.IDs {
			if seen[id] {
				continue
			}
			seen[id] = true
			if err := do(id); err != nil {
				return err
			}
		}
		return nil
	}
	newest, _, err := st.ListUndecodable(ctx, c.Reason, 1)
	if err != nil || len(newest) == 0 {
		return err
	}
	for last := uint64(0); ; {
		ids, err := st.UndecodableIDs(ctx, c.Reason, last, newest[0].RowID, page)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if err := do(id); err != nil {
				return err
			}
			last = id
		}
		if len(ids) < page {
			return nil
		}
	}
}

func (v *repairView) add(id uint64, o *replay.Outcome) {
	switch {
	case o.Gone:
		v.Gone++
	case o.Stays != "":
		v.StayCount++
		if len(v.Stay) < maxStay {
			v.Stay = append(v.Stay, stayView{id, o.Stays})
		}
	default:
		v.Records++
		v.Deliveries += o.Deliveries
		if o.Deliveries == 0 {
			v.Unmatched++
		}
	}
}

func (c *undecodableReplayCommand) print(s *session, v *repairView) error {
	if c.JSON {
		return s.printJSON(v)
	}
	records, deliveries := counted(v.Records, "record", "records"), counted(v.Deliveries, "delivery", "deliveries")
	if c.Yes {
		fmt.Fprintf(s.Stdout, "%s replayed and removed, %s pending\n", records, deliveries)
	} else {
		fmt.Fprintf(s.Stdout, "%s can be read now and would make %s\n", records, deliveries)
	}
	if v.Unmatched > 0 {
		what := "would be removed"
		if c.Yes {
			what = "removed"
		}
		fmt.Fprintf(s.Stdout, "of these, %s by no rule: %s without a delivery\n", counted(v.Unmatched, "is wanted", "are wanted"), what)
	}
	if v.Gone > 0 {
		fmt.Fprintf(s.Stdout, "%s not there\n", counted(v.Gone, "record is", "records are"))
	}
	for _, stay := range v.Stay {
		fmt.Fprintf(s.Stdout, "record %d stays: %s\n", stay.ID, stay.Why)
	}
	if more := v.StayCount - len(v.Stay); more > 0 {
		fmt.Fprintf(s.Stdout, "%s\n", counted(more, "more record stays", "more records stay"))
	}
	if !c.Yes && v.Records > 0 {
		fmt.Fprintln(s.Stdout, notDone)
	}
	return nil
}
