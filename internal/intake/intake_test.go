package intake_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/dispatch"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/intake"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/event"
)

// stages are all that an intake talks to: no record can be read, and the database may be away.
type stages struct {
	away atomic.Bool
	kept []store.Undecodable
}

func (s *stages) Envelope(*bus.Record) (event.Event, error) {
	return event.Event{}, &decode.Undecodable{Reason: decode.ReasonNoID}
}

func (s *stages) Message(context.Context, *bus.Record, event.Event) (*payload.Message, error) {
	return nil, errors.New("not asked for")
}

func (s *stages) Current() *rule.Snapshot                                  { return nil }
func (s *stages) Fresh(context.Context, time.Time) (*rule.Snapshot, error) { return nil, nil }
func (s *stages) Dispatch(dispatch.Source, []delivery.Delivery, func())    {}
func (s *stages) Backpressure(dispatch.Source)                             {}
func (s *stages) Submit(*payload.Message, func(*payload.Message), func())  {}
func (s *stages) plan(*payload.Message) []delivery.Delivery                { return nil }
func (s *stages) Drain(context.Context) error                              { return nil }
func (s *stages) InsertUndecodable(_ context.Context, u store.Undecodable) error {
	if s.away.Load() {
		return errors.New("the database is away")
	}
	s.kept = append(s.kept, u)
	return nil
}

func (s *stages) options() intake.Options {
	return intake.Options{Decoder: s, Rules: s, Filters: s, Dispatcher: s, Store: s, Plan: s.plan}
}

// A record that cannot be read waits for the database, and is released once it is kept. The log has one line for each kind of trouble.
func TestUndecodableRecordWaitsForTheDatabase(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, logs := &stages{}, &bytes.Buffer{}
		s.away.Store(true)
		o := s.options()
		o.Logger = slog.New(slog.NewTextHandler(logs, nil))
		in, err := intake.New(o)
		if err != nil {
			t.Fatal(err)
		}
		rec := bus.NewRecord("t", 0, 7)
		go in.Handle(t.Context(), rec)
		<-time.After(10 * time.Second)
		synctest.Wait()
		if err := in.Ready(t.Context()); err == nil || rec.Released() {
			t.Errorf("with the database away: ready says %v, released: %v", err, rec.Released())
		}
		s.away.Store(false)
		<-time.After(10 * time.Second)
		synctest.Wait()
		if err := in.Ready(t.Context()); err != nil || !rec.Released() || len(s.kept) != 1 {
			t.Errorf("ready says %v, released: %v, kept: %v", err, rec.Released(), s.kept)
		}
		in.Handle(t.Context(), bus.NewRecord("t", 0, 8))
		if n := strings.Count(logs.String(), "\n"); n != 2 || len(s.kept) != 2 {
			t.Errorf("%d records kept, %d lines logged; want 2 and 2:\n%s", len(s.kept), n, logs)
		}
	})
}

// A record whose partition goes while the database is away stays.
func TestUndecodableRecordStaysWhenItsPartitionGoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &stages{}
		s.away.Store(true)
		in, err := intake.New(s.options())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		rec := bus.NewRecord("t", 0, 7)
		in.Handle(ctx, rec)
		if rec.Released() || in.Ready(t.Context()) != nil {
			t.Errorf("released: %v, ready says %v", rec.Released(), in.Ready(t.Context()))
		}
	})
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	if _, err := intake.New(intake.Options{}); err == nil {
		t.Error("empty options were accepted")
	}
	o := (&stages{}).options()
	o.Registerer = prometheus.NewRegistry()
	if _, err := intake.New(o); err != nil {
		t.Fatal(err)
	}
	if _, err := intake.New(o); err == nil {
		t.Error("metrics were registered twice without an error")
	}
}
