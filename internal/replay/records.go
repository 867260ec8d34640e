package replay

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/plan"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/event"
)

// Outcome is what happened to an undecodable record, or would happen with Apply.
type Outcome struct {
	Gone       bool          // the record does not exist, or no longer
	Stays      string        // why the record stays, "" if it does not
	Reason     decode.Reason // the decoder's, "" if something else keeps the record
	Deliveries int           // that the record makes; 0 if no rule wants its event
}

// Redeliver decodes a kept record again. If that succeeds now, it removes the record's row and
// makes rows of the deliveries that rules want of it, in one transaction. The row of an event that
// no rule wants is removed, too. An error is not about the record: the registry or the database
// failed.
func (r *Replayer) Redeliver(ctx context.Context, row uint64, rules *rule.Snapshot) (Outcome, error) {
	kept, found, err := r.options.Records.UndecodableRow(ctx, row)
	if err != nil {
		return Outcome{}, err
	}
	if !found {
		return Outcome{Gone: true}, nil
	}
	rec, why := r.rebuild(ctx, &kept)
	if why != "" {
		return Outcome{Stays: why}, ctx.Err()
	}
	message, bad, err := r.decode(ctx, rec, func(*event.Event) bool { return true })
	if err != nil {
		return Outcome{}, err
	}
	if bad != nil {
		why := strings.TrimSuffix(string(bad.Reason)+": "+bad.Detail, ": ")
		return Outcome{Stays: why, Reason: bad.Reason}, nil //nolint:nilerr // the outcome has it
	}
	planned := plan.Deliveries(message, rules.Match(message.Event.Type))
	if !r.options.Apply {
		return Outcome{Deliveries: len(planned)}, nil
	}
	rows := make([]delivery.Insert, len(planned))
	for i := range planned {
		rows[i] = delivery.Queue(&planned[i], 0, delivery.ReasonReplay)
	}
	var done bool
	err = persist(ctx, func() (err error) {
		done, err = r.options.Records.Redeliver(ctx, row, rows)
		return err
	})
	if rejected, ok := errors.AsType[*delivery.RejectedError](err); ok {
		return Outcome{Stays: rejected.Error()}, nil
	}
	if err != nil {
		return Outcome{}, err
	}
	return Outcome{Gone: !done, Deliveries: len(rows)}, nil
}

// decode reads a record if its event is wanted, else message is nil. bad is why it can never be
// read; err is not about the record.
func (r *Replayer) decode(
	ctx context.Context, rec *bus.Record, wanted func(*event.Event) bool,
) (message *payload.Message, bad *decode.Undecodable, err error) {
	ev, err := r.options.Decoder.Envelope(rec)
	if err == nil && wanted(&ev) {
		message, err = r.options.Decoder.Message(ctx, rec, ev)
	}
	if bad, ok := decode.AsUndecodable(err); ok {
		return nil, bad, nil
	}
	return message, nil, err
}

// rebuild makes the record from its row. If the value did not fit the row, it reads the record from
// its topic; why says what prevented that.
func (r *Replayer) rebuild(ctx context.Context, kept *store.KeptRecord) (rec *bus.Record, why string) {
	if kept.ValueSize > int64(len(kept.Value)) {
		cut := fmt.Sprintf("only %d of the %d bytes of its value were kept", len(kept.Value), kept.ValueSize)
		whole, err := r.options.Log.Record(ctx, kept.Topic, int(kept.Partition), bus.Position(kept.Offset))
		switch {
		case err != nil:
			return nil, cut + ", and its topic cannot be read: " + err.Error()
		case whole == nil || !whole.Time.Equal(kept.Time): // another time: the topic was deleted and created again
			return nil, cut + ", and its topic does not have the record any more"
		}
		return whole, ""
	}
	rec = bus.NewRecord(kept.Topic, int(kept.Partition), bus.Position(kept.Offset))
	rec.Time, rec.Key, rec.Value, rec.Headers = kept.Time, kept.Key, kept.Value, kept.Headers
	return rec, ""
}
