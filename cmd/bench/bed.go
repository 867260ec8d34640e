package main

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/backoff"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/fakes"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// bed is the test bed of a scenario: the embedded servers and a receiver.
type bed struct {
	message  *fakes.Captured
	broker   *fakes.Broker
	registry *fakes.Registry
	database *fakes.Database

	receiverURL string
	cleanups    []func() error
}

func newBed(ctx context.Context, s scenario) (b *bed, err error) {
	b = &bed{}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if b.message, err = fakes.ParseCaptured(captured); err != nil {
		return nil, err
	}
	b.broker, err = fakes.StartBroker(fakes.BrokerOptions{Topics: map[string]int32{b.message.Topic: partitions}})
	if err != nil {
		return nil, err
	}
	b.cleanups = append(b.cleanups, func() error { b.broker.Close(); return nil })
	if b.registry, err = fakes.StartRegistry(fakes.RegistryOptions{}); err != nil {
		return nil, err
	}
	b.cleanups = append(b.cleanups, b.registry.Close)
	b.registry.Put(b.message.SchemaID, b.message.Schema)
	if b.database, err = fakes.StartDatabase(); err != nil {
		return nil, err
	}
	b.cleanups = append(b.cleanups, b.database.Close)
	if err := b.startReceiver(ctx, s); err != nil {
		return nil, err
	}
	return b, addRules(ctx, b.database.DSN(), b.receiverURL, s.rules)
}

func (b *bed) startReceiver(ctx context.Context, s scenario) (err error) {
	_, b.receiverURL, err = b.startServer(ctx, "receiver", "--delay", s.delay.String())
	return err
}

// startServer runs this program as a server and returns the URL that it prints.
func (b *bed) startServer(ctx context.Context, args ...string) (*process, string, error) {
	cmd, err := self(context.WithoutCancel(ctx), args...)
	if err != nil {
		return nil, "", err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	p, err := start(cmd)
	if err != nil {
		return nil, "", err
	}
	b.cleanups = append(b.cleanups, p.stop)
	line, err := bufio.NewReader(out).ReadString('\n')
	return p, strings.TrimSpace(line), err
}

func (b *bed) close() error {
	var errs []error
	for _, cleanup := range slices.Backward(b.cleanups) {
		errs = append(errs, cleanup())
	}
	return errors.Join(errs...)
}

const wanted = "COURSE_ENROLLMENT_CREATED"

// addRules creates the tables and n enabled rules, one of which matches the events.
func addRules(ctx context.Context, dsn, receiver string, n int) (err error) {
	options := store.Options{DSN: dsn}
	if _, err := store.Migrate(ctx, options, store.MigrateOptions{WithPluginTables: true}); err != nil {
		return err
	}
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		return err
	}
	var others []string
	for _, signal := range catalogue.Signals() {
		if signal.OnBus && signal.Constant != wanted && signal.Constant != "" {
			others = append(others, signal.Constant)
		}
	}
	db, err := store.Open(options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for i := range n {
		event := wanted
		if i > 0 {
			event = others[i%len(others)]
		}
		if _, err := db.AddWebhook(ctx, rule.Row{Event: event, URL: receiver + hookPath, Enabled: true}, nil); err != nil {
			return err
		}
	}
	return nil
}

// captured is a record that the platform's own producer wrote to a real Kafka.
//
//go:embed message.json
var captured []byte

const (
	partitions = 6
	batch      = 1000
)

// event returns the message as a new event, with the time and the sequence number in its id.
func (b *bed) event(seq int, now time.Time) fakes.Message {
	return b.message.Renew(eventID(now, seq), now, int32(seq%partitions))
}

// publish publishes n events as fast as the broker accepts them.
func (b *bed) publish(ctx context.Context, n int) error {
	for from := 0; from < n; from += batch {
		events := make([]fakes.Message, min(batch, n-from))
		for i := range events {
			events[i] = b.event(from+i, time.Now())
		}
		if err := b.broker.Publish(ctx, events...); err != nil {
			return err
		}
	}
	return nil
}

// pace publishes the scenario's events one by one at its rate.
func (b *bed) pace(ctx context.Context, s scenario) error {
	began := time.Now()
	for i := range s.events {
		due := began.Add(time.Duration(i) * time.Second / time.Duration(s.rate))
		if err := backoff.Sleep(ctx, time.Until(due)); err != nil {
			return err
		}
		if err := b.broker.Publish(ctx, b.event(i, time.Now())); err != nil {
			return err
		}
	}
	return nil
}
