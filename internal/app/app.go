// Package app wires the daemon: it builds the parts from the settings, starts and stops them.
//
// New starts nothing. Run starts health server, database, rules, queue, filter endpoint, dispatcher
// and bus, in this order, so that nothing is consumed before there are rules and a place for failed
// deliveries. It stops in reverse: end fetching, hand off deliveries in flight, commit, leave the
// group, wait for requests, write their results.
package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus/kafka"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode/confluent"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/dispatch"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/intake"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/queue"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/sender"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/server"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/webfilter/stage"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// Options are what is not a setting.
type Options struct {
	Version, Revision string       // of the build
	Logger            *slog.Logger // nil discards
}

const (
	// stopTime bounds the stop after the bus was left, which takes 5 s at most: together less than
	// the 30 s after which orchestrators kill.
	stopTime    = 19 * time.Second
	closeTime   = 4 * time.Second     // the end of it, for writing the last results and closing connections
	healthTime  = time.Second         // bounds the stop of the health server
	expireAfter = 14 * 24 * time.Hour // how long a row may wait untouched, its rule disabled
)

// App is one daemon. It is built by New and runs once.
type App struct {
	cfg    *config.Config
	logger *slog.Logger

	health     *server.Server
	endpoint   *server.Server // of filters; nil without
	store      *store.Store
	rules      *rule.Refresher
	registry   *confluent.Client
	intake     *intake.Intake
	consumer   *kafka.Consumer
	writer     *queue.Writer
	gauge      *queue.DepthMonitor
	claimer    *queue.Claimer
	pauser     *queue.Pauser
	pruner     *queue.Pruner
	dispatcher *dispatch.Dispatcher
	filters    *stage.Stage

	startup   startup
	consuming atomic.Bool // the bus has been started
	cleanups  cleanups
}

// New builds the daemon. It does not connect or listen; errors are about the settings.
func New(cfg *config.Config, o Options) (*App, error) {
	a := &App{cfg: cfg, logger: cmp.Or(o.Logger, slog.New(slog.DiscardHandler))}
	if err := a.build(o); err != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeTime)
		defer cancel()
		return nil, errors.Join(err, a.cleanups.run(ctx))
	}
	return a, nil
}

// build is one straight list on purpose: its order shows what depends on what.
func (a *App) build(o Options) error {
	cfg := a.cfg
	registry := prometheus.NewRegistry()
	if err := server.RegisterProcess(registry, o.Version, o.Revision); err != nil {
		return err
	}
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		return err
	}

	if a.store, err = OpenStore(&cfg.Database, a.logger.With("component", "store")); err != nil {
		return err
	}
	a.cleanups.add("database", func(context.Context) error { return a.store.Close() })

	compiler, err := NewCompiler(&cfg.Rules, &cfg.Secrets, cfg.SigningScheme, catalogue)
	if err != nil {
		return err
	}
	if a.rules, err = rule.New(rule.Options{
		Source: a.store, Compiler: compiler, Period: cfg.RulesRefresh,
		Logger: a.logger.With("component", "rules"), Registerer: registry,
	}); err != nil {
		return err
	}

	send, closeSender, err := NewSender(cfg, sender.Options{
		Version: o.Version, Logger: a.logger.With("component", "sender"), Registerer: registry,
	})
	if err != nil {
		return err
	}
	a.cleanups.add("endpoint connections", func(context.Context) error { closeSender(); return nil })

	if a.gauge, err = queue.NewDepthMonitor(queue.DepthMonitorOptions{
		Store:   a.store,
		Limits:  queue.Limits{RuleRows: cfg.QueueLimitRuleRows, Rows: cfg.QueueLimitRows, Bytes: int64(cfg.QueueLimitBytes)},
		PerRule: cfg.MetricsPerRule, Logger: a.logger.With("component", "queue"), Registerer: registry,
	}); err != nil {
		return err
	}
	if a.writer, err = queue.NewWriter(queue.WriterOptions{
		Store: a.store, Depth: a.gauge, Logger: a.logger.With("component", "queue"), Registerer: registry,
	}); err != nil {
		return err
	}
	a.cleanups.add("queue", a.writer.Stop)

	policy, err := delivery.NewPolicy(cfg.RetrySchedule, rand.Float64)
	if err != nil {
		return err
	}
	claim := queue.NewWakeup()
	if a.dispatcher, err = dispatch.New(dispatch.Options{
		Sender: send, Rules: a.rules, Queue: a.writer, Policy: policy, HandOff: cfg.HandOffAfter, Timeout: cfg.Timeout,
		EndpointConcurrency: cfg.EndpointConcurrency, Concurrency: cfg.Concurrency, EndpointRate: cfg.EndpointRate,
		Full: a.gauge.Full, DeadLetterOverflow: cfg.QueueOverflow == "dead", PerRule: cfg.MetricsPerRule, LogAll: cfg.AttemptLog == "all",
		RoomWanted: claim.Wake, Logger: a.logger.With("component", "dispatch"), Registerer: registry,
	}); err != nil {
		return err
	}
	a.cleanups.add("requests under way", within(stopTime, closeTime, a.dispatcher.Stop)) // then their results are written

	if err := a.buildFilters(send, claim, registry); err != nil {
		return err
	}
	if a.claimer, err = queue.NewClaimer(queue.ClaimerOptions{
		Store:     a.store,
		Consumers: map[delivery.Kind]queue.Consumer{delivery.KindWebhook: a.dispatcher, delivery.KindEvent: a.filters},
		Settle:    a.writer.Settle, Wakeup: claim, Depth: a.gauge,
		Logger: a.logger.With("component", "claimer"), Registerer: registry,
	}); err != nil {
		return err
	}
	if a.pauser, err = queue.NewPauser(queue.PauserOptions{
		Store: a.store, Lanes: a.dispatcher, Paused: a.rules.Paused, Logger: a.logger.With("component", "pauser"), Registerer: registry,
	}); err != nil {
		return err
	}
	if a.pruner, err = queue.NewPruner(queue.PrunerOptions{
		Store: a.store,
		Keep: queue.Retention{
			Delivered: cfg.RetentionDelivered, Dead: cfg.RetentionDead, Attempts: cfg.RetentionAttempts,
			Undecodable: cfg.RetentionUndecodable, Pending: expireAfter,
		},
		Logger: a.logger.With("component", "pruner"),
	}); err != nil {
		return err
	}

	if err := a.buildBus(catalogue, registry); err != nil {
		return err
	}
	return a.buildHealth(registry)
}

// Run runs the daemon until ctx ends or it fails, and returns once it has stopped, within 25 s.
func (a *App) Run(ctx context.Context) (err error) {
	defer func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		defer cancel()
		if cleanupErr := a.cleanups.run(stop); cleanupErr != nil {
			// The rest is in the database or is read again, so the daemon has not failed.
			a.logger.Warn("shutdown timed out; remaining work was abandoned", "error", cleanupErr)
		}
		a.logger.Info("stopped")
	}()
	if err := a.health.Start(ctx); err != nil {
		return err
	}
	a.cleanups.add("health server", within(healthTime, 0, a.health.Stop)) // little for a scrape, the rest for deliveries
	a.logger.InfoContext(ctx, "started", "listen", a.health.Addr().String(), "database", a.store.Target())

	if err = a.startup.wait(ctx, a.store.CheckSchema, a.logger); err == nil {
		err = a.rules.Load(ctx)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return nil // the stop made the error
	case err != nil:
		return err
	}
	a.writer.Start(ctx)
	if a.endpoint != nil { // without rules every request would pass, so it starts after they are read
		if err := a.endpoint.Start(ctx); err != nil {
			return err
		}
		a.cleanups.add("filter endpoint", within(a.cfg.FilterDeadline+time.Second, 3*closeTime, a.endpoint.Stop))
	}
	a.dispatcher.Start()
	// Rules are refreshed while the bus drains. Claiming ends at once: rows that the drain makes
	// are for other replicas or the next start.
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	claims, stopClaims := context.WithCancel(ctx)
	var working sync.WaitGroup
	working.Go(func() { a.rules.Run(work) })
	working.Go(func() { a.claimer.Run(claims) })
	working.Go(func() { a.gauge.Run(work) })
	working.Go(func() { a.pauser.Run(work) })
	working.Go(func() { a.pruner.Run(work) })
	a.cleanups.add("background work", func(context.Context) error {
		stopClaims()
		stopWork()
		working.Wait()
		return nil
	})

	stopping := context.AfterFunc(ctx, func() {
		a.logger.Info("stopping: fetching ends, and what is in flight is handed off")
	})
	defer stopping()
	a.consuming.Store(true)
	err = a.consumer.Run(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err == nil {
		err = errors.New("it ended by itself")
	}
	return fmt.Errorf("consume: %w", err)
}

// Addr returns the address of the health server, once Run has started it.
func (a *App) Addr() net.Addr { return a.health.Addr() }

// cleanups run in reverse order, each once.
type cleanups struct{ list []cleanup }

type cleanup struct {
	name string
	run  func(ctx context.Context) error
}

// add goes on the line after what it cleans up.
func (c *cleanups) add(name string, run func(ctx context.Context) error) {
	c.list = append(c.list, cleanup{name, run})
}

// within gives a cleanup at most `most`, and leaves `left` of the stop's time to those after it.
func within(most, left time.Duration, stop func(ctx context.Context) error) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		end := time.Now().Add(most)
		if deadline, ok := ctx.Deadline(); ok && deadline.Add(-left).Before(end) {
			end = deadline.Add(-left)
		}
		ctx, cancel := context.WithDeadline(ctx, end)
		defer cancel()
		return stop(ctx)
	}
}

// run runs all of them, even after an error.
func (c *cleanups) run(ctx context.Context) error {
	var errs []error
	for _, v := range slices.Backward(c.list) {
		if err := v.run(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", v.name, err))
		}
	}
	c.list = nil
	return errors.Join(errs...)
}
