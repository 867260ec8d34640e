package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/app"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/fakes"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/server"
)

const partitions = 3

// sandbox is everything that runs.
type sandbox struct {
	broker   *fakes.Broker
	registry *fakes.Registry
	database *fakes.Database
	receiver *server.Server
	daemon   *app.App

	group    string // the daemon's consumer group
	messages []*fakes.Captured
	rules    []*sampleRule
	ledger   *ledger

	stop     context.CancelFunc // of the daemon
	ended    chan struct{}      // closed when the daemon has ended
	err      error              // of its end; read after ended
	cleanups []func() error     // run last first
}

// start starts all servers and then the daemon. The sandbox must be closed even if there is an
// error.
func start(ctx context.Context, out *terminal, log *slog.Logger) (*sandbox, error) {
	s := &sandbox{rules: sampleRules(), ended: make(chan struct{})}
	s.ledger = newLedger(s.rules)
	var err error
	if s.messages, err = loadMessages(); err != nil {
		return s, err
	}
	if err := s.startServers(ctx, out); err != nil {
		return s, err
	}
	return s, s.startDaemon(ctx, log)
}

func (s *sandbox) startServers(ctx context.Context, out *terminal) error {
	counts := map[string]int32{}
	for _, m := range s.messages {
		counts[m.Topic] = partitions
	}
	var err error
	if s.broker, err = fakes.StartBroker(fakes.BrokerOptions{Topics: counts}); err != nil {
		return err
	}
	s.cleanups = append(s.cleanups, func() error { s.broker.Close(); return nil })
	if s.registry, err = fakes.StartRegistry(fakes.RegistryOptions{}); err != nil {
		return err
	}
	s.cleanups = append(s.cleanups, s.registry.Close)
	for _, m := range s.messages {
		s.registry.Put(m.KeyID, m.KeyText)
		s.registry.Put(m.SchemaID, m.Schema)
	}
	if s.database, err = fakes.StartDatabase(); err != nil {
		return err
	}
	s.cleanups = append(s.cleanups, s.database.Close)
	if s.receiver, err = startReceiver(ctx, s.rules, s.ledger, out); err != nil {
		return err
	}
	s.cleanups = append(s.cleanups, func() error { return s.receiver.Stop(context.WithoutCancel(ctx)) })
	return addRules(ctx, s.database.DSN(), "http://"+s.receiver.Addr().String(), s.rules)
}

// config is what an operator would set, with shorter times.
func (s *sandbox) config() (*config.Config, error) {
	cfg := config.Default()
	cfg.BootstrapServers, cfg.SchemaRegistryURL = s.broker.Addrs(), s.registry.URL()
	cfg.TopicPrefix, cfg.StartOffset = topicPrefix, "earliest"
	for _, topic := range topics(s.messages) {
		cfg.Topics = append(cfg.Topics, strings.TrimPrefix(topic, topicPrefix+"-"))
	}
	cfg.MySQLDSN = config.Secret(s.database.DSN())
	cfg.EgressAllow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} // the receiver
	cfg.RetrySchedule = []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second}
	cfg.RulesRefresh = time.Second
	cfg.Listen = "127.0.0.1:0"
	return &cfg, cfg.Check()
}

func (s *sandbox) startDaemon(ctx context.Context, log *slog.Logger) error {
	cfg, err := s.config()
	if err != nil {
		return err
	}
	s.group = cfg.GroupID
	if s.daemon, err = app.New(cfg, app.Options{Version: "sandbox", Revision: "sandbox", Logger: log}); err != nil {
		return err
	}
	// ctx does not end it: on Ctrl-C the publisher stops first.
	daemonCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	go func() {
		defer close(s.ended)
		s.err = s.daemon.Run(daemonCtx)
	}()
	s.cleanups = append(s.cleanups, func() error { stop(); <-s.ended; return nil }) // its error is already reported
	return s.waitListening(ctx)
}

// waitListening waits until the daemon's health server has its address.
func (s *sandbox) waitListening(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for s.daemon.Addr() == nil {
		if err := await(ctx, s, tick.C); err != nil {
			return err
		}
	}
	return nil
}

// await waits for a channel, and fails if the daemon ends earlier.
func await[T any](ctx context.Context, s *sandbox, c <-chan T) error {
	select {
	case <-c:
		return nil
	case <-s.ended:
		return s.daemonEnded()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stopDaemon stops the daemon as SIGTERM would, and waits. It may be called more than once.
func (s *sandbox) stopDaemon() error {
	s.stop()
	<-s.ended
	if s.err != nil {
		return s.daemonEnded()
	}
	return nil
}

func (s *sandbox) daemonEnded() error {
	if s.err == nil {
		return errors.New("the daemon ended unexpectedly")
	}
	return fmt.Errorf("the daemon ended: %w", s.err)
}

// close stops everything, the daemon first.
func (s *sandbox) close() error {
	var errs []error
	for _, cleanup := range slices.Backward(s.cleanups) {
		errs = append(errs, cleanup())
	}
	return errors.Join(errs...)
}
