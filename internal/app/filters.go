package app

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/plan"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/queue"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/sender"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/server"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/webfilter"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/webfilter/stage"
)

// buildFilters builds the webfilter engine, the stage for events of the bus, and the endpoint for
// filters in the request.
func (a *App) buildFilters(send *sender.Sender, claim *queue.Wakeup, registerer prometheus.Registerer) error {
	engine, err := webfilter.New(webfilter.Options{Rules: a.rules, Caller: send, Deadline: a.cfg.FilterDeadline, Registerer: registerer})
	if err != nil {
		return err
	}
	if a.filters, err = stage.New(stage.Options{
		Filters: engine, Chains: chains{a.rules}, Queue: a.writer, Ends: a.writer, Plan: a.plan, HandOff: a.cfg.HandOffAfter,
		Deadline: a.cfg.FilterDeadline, Concurrency: webfilter.MaxCalls, // so that no event finds a row of the bus busy
		Full: a.gauge.Full, LaneFull: a.gauge.LaneFull, DeadLetterOverflow: a.cfg.QueueOverflow == "dead", Wake: claim.Wake,
		Logger: a.logger.With("component", "filtering"), Registerer: registerer,
	}); err != nil {
		return err
	}
	// Filters get their time, and the time to write their answers. Requests to endpoints of webhooks
	// go on meanwhile: the dispatcher's stop has the rest of the time for them.
	a.cleanups.add("filters under way", within(a.cfg.FilterDeadline+closeTime, 2*closeTime, a.filters.Stop))
	if a.cfg.FilterListen == "" {
		return nil
	}
	endpoint, err := server.NewFilters(server.FilterOptions{Filters: engine, Tokens: a.cfg.Tokens(), Logger: a.logger, Registerer: registerer})
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
	return plan.Deliveries(m, a.rules.Current().Match(m.Event.Type))
}

// chains are the webfilter rows of events, by the rules of the moment.
type chains struct{ rules *rule.Refresher }

// Chain implements stage.Chains.
func (c chains) Chain(eventType string) (first int32, sealed bool) {
	for i, f := range c.rules.Webfilters(eventType) {
		if i == 0 {
			first = f.ID
		}
		sealed = sealed || f.Waits
	}
	return first, sealed
}

// TypeOf implements stage.Chains.
func (c chains) TypeOf(row int32) string {
	if e := c.rules.Current().Entry(rule.Key{Table: rule.Webfilters, ID: row}); e != nil && e.OnBus() {
		return e.Rule.EventType
	}
	return ""
}
