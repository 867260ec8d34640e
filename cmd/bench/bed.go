package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode/confluent"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/fakes"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// bed is what a scenario runs on: the embedded servers and a receiver.
type bed struct {
	message  *fakes.Captured
	broker   *fakes.Broker
	registry *fakes.Registry
	database *fakes.Database

	receiverURL string
	client      *http.Client
	body        []byte // of a delivery, for the plain client
	cleanups    []func() error
}

func newBed(ctx context.Context, s scenario) (b *bed, err error) {
	b = &bed{client: local()}
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
	if err := addRules(ctx, b.database.DSN(), b.receiverURL, s.rules); err != nil {
		return nil, err
	}
	b.body, err = b.render(ctx)
	return b, err
}

// startReceiver starts the receiver and reads its address.
func (b *bed) startReceiver(ctx context.Context, s scenario) error {
	cmd, err := self(context.WithoutCancel(ctx), "receiver", "--delay", s.delay.String())
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	p, err := start(cmd)
	if err != nil {
		return err
	}
	b.cleanups = append(b.cleanups, p.stop)
	line, err := bufio.NewReader(out).ReadString('\n')
	b.receiverURL = strings.TrimSpace(line)
	return err
}

func (b *bed) close() error {
	var errs []error
	for _, cleanup := range slices.Backward(b.cleanups) {
		errs = append(errs, cleanup())
	}
	return errors.Join(errs...)
}

// render makes the body that the daemon sends for an event.
func (b *bed) render(ctx context.Context) ([]byte, error) {
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		return nil, err
	}
	client, err := confluent.NewClient(confluent.ClientOptions{URL: b.registry.URL()})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	decoder, err := confluent.New(client, catalogue)
	if err != nil {
		return nil, err
	}
	e := b.event(0, time.Now())
	rec := bus.NewRecord(e.Topic, 0, 0)
	rec.Time, rec.Key, rec.Value = e.Time, e.Key, e.Value
	for _, h := range e.Headers {
		rec.Headers = append(rec.Headers, bus.Header{Key: h.Key, Value: h.Value})
	}
	ev, err := decoder.Envelope(rec)
	if err != nil {
		return nil, err
	}
	m, err := decoder.Message(ctx, rec, ev)
	if err != nil {
		return nil, err
	}
	return bytes.Clone(m.Body(delivery.FormatJSON)), nil
}

// arrivals asks the receiver what has come.
func (b *bed) arrivals(ctx context.Context) (got arrivals, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.receiverURL+statsPath, http.NoBody)
	if err != nil {
		return got, err
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return got, fmt.Errorf("ask the receiver: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end below
	return got, json.NewDecoder(resp.Body).Decode(&got)
}
