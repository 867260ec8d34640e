package app

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/dispatch"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/filtering"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/sender"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/server"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/webfilter"
)

// filteredEvents is how many events may be with their webfilters at a time.
const filteredEvents = 128

// events is the queue of the events that wait for their webfilters.
var events = delivery.Lane{Kind: delivery.KindEvent}

// buildFilters builds what calls webfilters: the engine, the stage for events of the bus, and the endpoint for those in the request.
func (a *App) buildFilters(send *sender.Sender, registerer prometheus.Registerer) error {
	engine, err := webfilter.New(webfilter.Options{
		Rules: a.rules, Caller: send, Deadline: a.cfg.FilterDeadline, Registerer: registerer,
	})
	if err != nil {
		return err
	}
	a.filters, err = filtering.New(filtering.Options{
		Filters: engine, Queue: a.writer, Store: a.store, Plan: a.plan, HandOff: a.cfg.HandOff, Deadline: a.cfg.FilterDeadline,
		Concurrency: filteredEvents, Full: func() bool { return a.gauge.Full(events) }, RowsMade: func() { a.claimer.Wake() },
		Logger: a.logger.With("component", "filtering"), Registerer: registerer,
	})
	if err != nil {
		return err
	}
	a.cleanups.add("filters under way", a.filters.Close)
	if a.cfg.FilterListen == "" {
		return nil
	}
	endpoint, err := server.NewFilters(server.FilterOptions{
		Filters: engine, Tokens: a.cfg.Tokens(), Logger: a.logger, Registerer: registerer,
	})
	if err != nil {
		return err
	}
	a.endpoint, err = server.New(server.Options{
		Name: "filters", Address: a.cfg.FilterListen, Setting: "WEBHOOK_DISPATCHER_FILTER_LISTEN (--filter-listen)", Handler: endpoint,
		Timeout: a.cfg.FilterDeadline + 30*time.Second, Logger: a.logger,
	})
	return err
}

// plan returns the deliveries of an event by the rules of this moment.
func (a *App) plan(m *payload.Message) []delivery.Delivery {
	return dispatch.Plan(m, a.rules.Current().Match(m.Event.Type))
}

// startEndpoint listens for filters in the request. It must not before there are rules: an answer from none would let everything pass.
func (a *App) startEndpoint(ctx context.Context) error {
	if a.endpoint == nil {
		return nil
	}
	if err := a.endpoint.Start(ctx); err != nil {
		return err
	}
	a.cleanups.add("filter endpoint", a.endpoint.Stop)
	return nil
}

// lanes is where claimed rows go: deliveries to their lanes, events to their filters.
type lanes struct {
	*dispatch.Dispatcher
	filters *filtering.Stage
}

// Room implements queue.Lanes.
func (l lanes) Room(lane delivery.Lane) (room int, lease time.Duration, known bool) {
	if lane.Kind == delivery.KindEvent {
		room, lease = l.filters.Room()
		return room, lease, true
	}
	return l.Dispatcher.Room(lane)
}

// Resend implements queue.Lanes. Rows come of one lane at a time.
func (l lanes) Resend(rows []delivery.Row, until time.Time) {
	if len(rows) > 0 && rows[0].Kind == delivery.KindEvent {
		l.filters.Resume(rows, until)
		return
	}
	l.Dispatcher.Resend(rows, until)
}
