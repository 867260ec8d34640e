package admin

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/suggest"
)

// RecordView is an undecodable record in a list.
type RecordView struct {
	ID        uint64    `json:"id"`
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	Time      time.Time `json:"time"`
	Reason    string    `json:"reason"`
	ValueSize int64     `json:"value_size"` // bytes on the bus
	CreatedAt time.Time `json:"created_at"`
}

// RecordDetail is an undecodable record with its headers.
type RecordDetail struct {
	RecordView

	KeySize   int          `json:"key_size"`   // bytes kept
	ValueKept int          `json:"value_kept"` // bytes; less than value_size where the value was cut
	Headers   []bus.Header `json:"headers"`    // values as base64
	*RecordContent
}

// RecordContent is the key and the value of a record. Null is a record without a key, or a tombstone.
type RecordContent struct {
	Key   []byte `json:"key"`
	Value []byte `json:"value"`
}

// UndecodableList is a part of the list of undecodable records.
type UndecodableList struct {
	Records []RecordView
	More    bool // the list goes on after the limit
}

// Undecodable lists up to limit records that were kept for reason, the newest first. An empty
// reason selects all. The limit is from 1 to 10,000.
func (a *Admin) Undecodable(ctx context.Context, reason string, limit int) (*UndecodableList, error) {
	if err := cmp.Or(checkLimit(limit), checkReason(reason)); err != nil {
		return nil, err
	}
	found, more, err := a.o.Store.ListUndecodable(ctx, reason, limit)
	if err != nil {
		return nil, err
	}
	return &UndecodableList{Records: views(found, viewRecord), More: more}, nil
}

// checkReason refuses a reason that no record can have, which would look as if there were none.
func checkReason(reason string) error {
	var known []string
	for _, reason := range decode.Reasons() {
		known = append(known, string(reason))
	}
	if reason == "" || slices.Contains(known, reason) {
		return nil
	}
	unknown := fmt.Sprintf("unknown reason %q", suggest.Clip(reason, maxWord))
	return &Problem{Field: "reason", Reason: unknown, Fix: "write one of " + strings.Join(known, ", ")}
}

func viewRecord(r *store.KeptRecord) RecordView {
	return RecordView{
		ID: r.RowID, Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Time: r.Time, Reason: r.Reason,
		ValueSize: r.ValueSize, CreatedAt: r.CreatedAt,
	}
}

// UndecodableRecord returns one record. Key and value hold learners' data and are only in it with
// content. A record that does not exist is a *NotFoundError.
func (a *Admin) UndecodableRecord(ctx context.Context, id uint64, content bool) (*RecordDetail, error) {
	record, found, err := a.o.Store.UndecodableRow(ctx, id)
	switch {
	case err != nil:
		return nil, err
	case !found:
		return nil, &NotFoundError{Reason: fmt.Sprintf("there is no undecodable record %d", id), See: SeeUndecodable}
	}
	detail := &RecordDetail{RecordView: viewRecord(&record), KeySize: len(record.Key), ValueKept: len(record.Value), Headers: record.Headers}
	if content {
		detail.RecordContent = &RecordContent{Key: record.Key, Value: record.Value}
	}
	return detail, nil
}

// UndecodableReplay asks for records to be decoded again: of IDs, those kept for Reason, or All.
type UndecodableReplay struct {
	IDs    []uint64
	Reason string
	All    bool
	// Apply makes their deliveries and removes the records. Without, they are only counted.
	Apply bool
}

// UndecodableReplayView is the result of a replay of undecodable records.
type UndecodableReplayView struct {
	Applied    bool         `json:"applied"`    // false: the records were only counted
	Records    int          `json:"records"`    // that can be read now, and are removed
	Deliveries int          `json:"deliveries"` // that they make
	Unmatched  int          `json:"unmatched"`  // of the records, those that no rule wants
	Gone       int          `json:"gone"`       // records that do not exist
	StayCount  int          `json:"stay_count"` // records that cannot be read or replayed, and stay
	Stay       []StayRecord `json:"stay"`       // these, or the first 100 of them
}

// StayRecord is a record that stays, with the reason.
type StayRecord struct {
	ID  uint64 `json:"id"`
	Why string `json:"why"`
}

// maxStay bounds the records that are named as staying.
const maxStay = 100

// Check returns what is wrong with the request, without asking the database.
func (r *UndecodableReplay) Check() error {
	ways := 0
	for _, given := range [...]bool{len(r.IDs) > 0, r.Reason != "", r.All} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		return &Problem{Reason: "write the ids of the records to replay, or `reason` REASON, or `all`"}
	}
	return checkReason(r.Reason)
}

// ReplayUndecodable counts the records that can be decoded now, and with Apply makes their
// deliveries and removes them. Records that stay are in the view. After an error the view, where
// there is one, holds what was done before.
func (a *Admin) ReplayUndecodable(ctx context.Context, r *UndecodableReplay) (*UndecodableReplayView, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	replayer, rules, err := a.replayer(ctx, r.Apply)
	if err != nil {
		return nil, err
	}
	view := &UndecodableReplayView{Applied: r.Apply, Stay: []StayRecord{}}
	return view, a.eachRecord(ctx, r, func(id uint64) error {
		outcome, err := replayer.Redeliver(ctx, id, rules)
		if err != nil {
			return fmt.Errorf("undecodable record %d: %w", id, err)
		}
		switch {
		case outcome.Gone:
			view.Gone++
		case outcome.Stays != "":
			view.StayCount++
			if len(view.Stay) < maxStay {
				view.Stay = append(view.Stay, StayRecord{id, outcome.Stays})
			}
		default:
			view.Records++
			view.Deliveries += outcome.Deliveries
			if outcome.Deliveries == 0 {
				view.Unmatched++
			}
		}
		return nil
	})
}

// eachRecord calls do for each record once, the oldest first, but not for any kept from now on.
func (a *Admin) eachRecord(ctx context.Context, r *UndecodableReplay, do func(id uint64) error) error {
	each := func(ids []uint64) error {
		for _, id := range ids {
			if err := do(id); err != nil {
				return err
			}
		}
		return nil
	}
	if len(r.IDs) > 0 {
		return each(slices.Compact(slices.Sorted(slices.Values(r.IDs))))
	}
	newest, _, err := a.o.Store.ListUndecodable(ctx, r.Reason, 1)
	if err != nil || len(newest) == 0 {
		return err
	}
	for last := uint64(0); ; {
		ids, err := a.o.Store.UndecodableIDs(ctx, r.Reason, last, newest[0].RowID, page)
		if err == nil {
			err = each(ids)
		}
		if err != nil || len(ids) < page {
			return err
		}
		last = ids[len(ids)-1]
	}
}
