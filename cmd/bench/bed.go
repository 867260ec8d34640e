package main

import (
	"bufio"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/fakes"
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
