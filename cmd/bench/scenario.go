package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// scenario is one thing to measure.
type scenario struct {
	name, about string
	events      int
	delay       time.Duration // of the receiver's answers
	rules       int           // in all; one of them wants the events
	rate        int           // events published in a second while the daemon runs; 0: all of them before it starts
	idle        bool          // nothing is published; memory alone
	filters     bool          // nothing is published; the filter endpoint is asked, without bus and database
}

const concurrency = 64

var scenarios = []scenario{
	{name: "instant", about: "a receiver that answers at once", events: 200_000, rules: 1},
	{name: "10ms", about: "a receiver that takes 10 ms", events: 60_000, rules: 1, delay: 10 * time.Millisecond},
	{name: "100ms", about: "a receiver that takes 100 ms", events: 9_600, rules: 1, delay: 100 * time.Millisecond},
	{name: "100-rules", about: "100 rules, one of which wants the events", events: 200_000, rules: 100},
	{name: "10000-rules", about: "10,000 rules, one of which wants the events", events: 200_000, rules: 10_000},
	{name: "backlog", about: "a backlog of 300,000 events", events: 300_000, rules: 1},
	{name: "latency", about: "1,000 events a second", events: 20_000, rules: 1, rate: 1000},
	{
		name: "filters", about: "500 requests a second for a filter with a row that takes 10 ms; p50 and p99 without these", events: 10_000,
		rules: 1, rate: 500, delay: 10 * time.Millisecond, filters: true,
	},
	{name: "idle", about: "10,000 rules and no events", rules: 10_000, idle: true},
}

// measure runs one scenario once: the daemon, and then the plain client against the same receiver.
func (c *runCommand) measure(ctx context.Context, s scenario) (f figures, err error) {
	if s.filters {
		return measureFilters(ctx, s)
	}
	bed, err := newBed(ctx, s)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, bed.close()) }()
	if s.rate == 0 {
		if err := bed.publish(ctx, 0, s.events); err != nil {
			return f, err
		}
	}
	daemon, err := c.startDaemon(ctx, bed, s)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, daemon.stop()) }()
	if err := daemon.waitReady(ctx); err != nil {
		return f, err
	}
	if s.idle {
		f, err = idle(ctx, daemon)
	} else {
		f, err = bed.follow(ctx, daemon, s)
	}
	if err != nil {
		return f, err
	}
	if err := daemon.stop(); err != nil || s.idle || s.rate > 0 {
		return f, err
	}
	f.client, err = bed.plainClient(ctx, s)
	return f, err
}

// follow waits until all events have arrived.
func (b *bed) follow(ctx context.Context, d *process, s scenario) (f figures, err error) {
	before, err := d.cpu()
	if err != nil {
		return f, err
	}
	if s.rate > 0 {
		if err := b.pace(ctx, s); err != nil {
			return f, err
		}
	}
	got := arrivals{}
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for got.Distinct < s.events {
		select {
		case <-poll.C:
		case <-d.ended:
			return f, d.failure()
		case <-ctx.Done():
			return f, fmt.Errorf("%d of %d events arrived: %w", got.Distinct, s.events, ctx.Err())
		}
		if got, err = b.arrivals(ctx); err != nil {
			return f, err
		}
		if f.daemon.cpu, err = d.cpu(); err != nil {
			return f, err
		}
	}
	f.daemon.cpu -= before
	f.daemon.requests, f.repeats = got.Count, got.Count-got.Distinct
	f.daemon.took = time.Duration(got.Last - got.First)
	f.p50, f.p99 = time.Duration(got.P50), time.Duration(got.P99)
	f.daemon.peak, err = d.peak()
	return f, err
}

// settleTime is how long an idle daemon is watched: a few refreshes of the rules.
const settleTime = 20 * time.Second

func idle(ctx context.Context, d *process) (f figures, err error) {
	before, err := d.cpu()
	if err != nil {
		return f, err
	}
	select {
	case <-time.After(settleTime):
	case <-d.ended:
		return f, d.failure()
	case <-ctx.Done():
		return f, ctx.Err()
	}
	after, err := d.cpu()
	if err != nil {
		return f, err
	}
	f.idleCPU = float64(after-before) / float64(settleTime)
	f.daemon.peak, err = d.peak()
	return f, err
}

// plainClient sends the scenario's bodies to the receiver without the daemon.
func (b *bed) plainClient(ctx context.Context, s scenario) (side, error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return side{}, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a file of a kilobyte
	file := filepath.Join(dir, "body")
	if err := os.WriteFile(file, b.body, 0o600); err != nil {
		return side{}, err
	}
	text, err := runSelf(ctx, "client", "--url", b.receiverURL, "--body", file, "--requests", fmt.Sprint(s.events))
	if err != nil {
		return side{}, fmt.Errorf("plain client: %w", err)
	}
	var r clientResult
	if err := json.Unmarshal(text, &r); err != nil {
		return side{}, fmt.Errorf("plain client: %w", err)
	}
	return side{requests: s.events, took: r.Took, cpu: r.CPU, peak: r.Peak}, nil
}
