package replay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode/confluent"
)

func TestRedeliver(t *testing.T) {
	t.Parallel()
	const unwanted = "org.openedx.learning.badge.awarded.v1"
	w := newWorld(t)
	corrupt := w.record(3)
	corrupt.Value = corrupt.Value[:8]
	cut, lost, other := w.record(4), w.record(5), w.record(6)
	w.partition("a", 0, cut, other)
	w.keep(1, w.record(1))
	w.keep(2, setHeader(w.record(2), "ce_type", unwanted))
	w.keep(3, corrupt)
	w.keep(7, setHeader(w.record(7), "ce_id", ""))
	for number, rec := range map[uint64]*bus.Record{4: cut, 5: lost, 6: other} {
		if rec == lost {
			lost.Topic, lost.Position = "a", 77
		}
		w.keep(number, rec)
		kept := w.records[number]
		kept.Value = kept.Value[:6]
		if rec == other {
			kept.Time = kept.Time.Add(time.Millisecond)
		}
		w.records[number] = kept
	}
	tests := []struct {
		record     uint64
		stays      string
		reason     decode.Reason
		deliveries int
		gone       bool
	}{
		{1, "", "", 2, false},
		{2, "", "", 0, false},
		{3, "corrupt: ", decode.ReasonCorrupt, 0, false},
		{4, "", "", 2, false},
		{5, "only 6 of the " + fmt.Sprint(len(lost.Value)) + " bytes of its value were kept, and its topic does not have", "", 0, false},
		{6, "only 6 of the ", "", 0, false},
		{7, "no_id: header ce_id is missing", decode.ReasonNoID, 0, false},
		{8, "", "", 0, true},
	}
	for _, apply := range []bool{false, true} {
		r := w.replayer(apply, false)
		for _, tt := range tests {
			got, err := r.Redeliver(t.Context(), tt.record, w.snapshot())
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(got.Stays, tt.stays) || (got.Stays == "") != (tt.stays == "") || got.Reason != tt.reason ||
				got.Deliveries != tt.deliveries || got.Gone != tt.gone {
				t.Errorf("record %d: %+v, want %+v", tt.record, got, tt)
			}
			_, there := w.records[tt.record]
			want(t, fmt.Sprintf("record %d is there", tt.record), there, !tt.gone && (!apply || tt.stays != ""))
		}
		if !apply {
			want(t, "rows of a dry run", len(w.rows), 0)
		}
	}
	want(t, "rows", len(w.rows), 4)
	for _, in := range w.written {
		want(t, "row", fmt.Sprintf("%s %s %s", in.State, in.Reason, in.EventType), "pending replay "+registered)
	}
	if w.rows[idOf(1)] == nil || w.rows[idOf(4)] == nil {
		t.Error("the deliveries have other ids than those that they would have had")
	}
	got, err := w.replayer(true, false).Redeliver(t.Context(), 1, w.snapshot())
	if err != nil || !got.Gone {
		t.Errorf("a record that is gone: %+v, %v", got, err)
	}
}

// A record that is taken away while it is decoded makes no row.
func TestRedeliverGoneMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keep(1, w.record(1))
	r := w.replayer(true, false)
	r.options.Decoder = w.decoder(seamed{w.registry, func() { delete(w.records, 1) }})
	got, err := r.Redeliver(t.Context(), 1, w.snapshot())
	if err != nil || !got.Gone || len(w.rows) > 0 {
		t.Errorf("%+v, %v, %d rows", got, err, len(w.rows))
	}
}

// seamed calls before whenever its registry is asked.
type seamed struct {
	confluent.Waiting
	before func()
}

// Schema implements confluent.Registry.
func (s seamed) Schema(ctx context.Context, id uint32) (*decode.Schema, error) {
	s.before()
	return s.Waiting.Schema(ctx, id)
}

func TestRedeliverFaults(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.keep(1, w.record(1))
		broken := errors.New("connection lost")
		w.failRows = []error{nil, broken, broken, nil}
		if got, err := w.replayer(true, false).Redeliver(t.Context(), 1, w.snapshot()); err != nil || got.Deliveries != 2 {
			t.Errorf("a database that is away for a moment: %+v, %v", got, err)
		}
		w.keep(2, w.record(2))
		w.failRows = slices.Repeat([]error{broken}, maxTries+1)
		w.failRows[0] = nil
		if _, err := w.replayer(true, false).Redeliver(t.Context(), 2, w.snapshot()); !errors.Is(err, broken) {
			t.Errorf("a database that stays away: %v", err)
		}
		w.failRows, w.maxBody = nil, 10
		if got, err := w.replayer(true, false).Redeliver(t.Context(), 2, w.snapshot()); err != nil || !strings.Contains(got.Stays, "do not fit") {
			t.Errorf("a body that does not fit: %+v, %v", got, err)
		}
		want(t, "rows", len(w.rows), 2)
		want(t, "records", len(w.records), 1)
		w.registry.away = errors.New("refused")
		var away *confluent.UnreachableError
		if _, err := w.replayer(true, false).Redeliver(t.Context(), 2, w.snapshot()); !errors.As(err, &away) {
			t.Errorf("a registry that is away: %v", err)
		}
		w.registry.away = nil
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		delete(w.registry.schemas, schemaID)
		if _, err := w.replayer(true, false).Redeliver(ctx, 2, w.snapshot()); !errors.Is(err, context.Canceled) {
			t.Errorf("a context that has ended: %v", err)
		}
		if got, err := w.replayer(true, false).Redeliver(t.Context(), 2, w.snapshot()); err != nil || got.Reason != decode.ReasonUnknownSchema {
			t.Errorf("a schema that is unknown: %+v, %v", got, err)
		}
	})
}
