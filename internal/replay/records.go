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
)

// Outcome is what happened to an undecodable record, or would happen with Apply.
type Outcome struct {
	// Gone says that the record does not exist, or no longer.
	Gone bool
	// Stays says why the record stays, empty where it does not. Reason is the decoder's, empty
	// where something else keeps the record.
	Stays  string
	Reason decode.Reason
	// Deliveries counts the deliveries that the record makes, none where no rule wants its event.
	Deliveries int
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
	message, err := r.decode(ctx, rec)
	if bad, ok := decode.AsUndecodable(err); ok {
		return Outcome{Stays: strings.TrimSuffix(string(bad.Reason)+": "+bad.Detail, ": "), Reason: bad.Reason}, nil
	}
	if err != nil {
		return Outcome{}, err
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
	var rejected *delivery.RejectedError
	switch {
	case errors.As(err, &rejected):
		return Outcome{Stays: rejected.Error()}, nil
	case err != nil:
		return Outcome{}, err
	}
	return Outcome{Gone: !done, Deliveries: len(rows)}, nil
}

func (r *Replayer) decode(ctx context.Context, rec *bus.Record) (*payload.Message, error) {
	ev, err := r.options.Decoder.Envelope(rec)
	if err != nil {
		return nil, err
	}
	return r.options.Decoder.Message(ctx, rec, ev)
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
	rec.Time, rec.Key, rec.Value = kept.Time, kept.Key, kept.Value
	rec.Headers = make([]bus.Header, len(kept.Headers))
	for i, h := range kept.Headers {
		rec.Headers[i] = bus.Header{Key: h.Key, Value: h.Value}
	}
	return rec, ""
}
