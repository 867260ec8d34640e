package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// scenario is one measurement.
type scenario struct {
	name, about string
	events      int
	delay       time.Duration // of the receiver's answers
	rules       int           // one of them matches the events
	rate        int           // events per second while the daemon runs; 0: all before it starts
	idle        bool          // without events
	filters     bool          // requests to the filter endpoint, without bus and database
}

const concurrency = 64

var scenarios = []scenario{
	{name: "instant", about: "a receiver that answers at once", events: 200_000, rules: 1},
	{name: "10ms", about: "a receiver that takes 10 ms", events: 60_000, rules: 1, delay: 10 * time.Millisecond},
	{name: "100ms", about: "a receiver that takes 100 ms", events: 9_600, rules: 1, delay: 100 * time.Millisecond},
	{name: "100-rules", about: "100 rules, one of which matches the events", events: 200_000, rules: 100},
	{name: "10000-rules", about: "10,000 rules, one of which matches the events", events: 200_000, rules: 10_000},
	{name: "backlog", about: "a backlog of 300,000 events", events: 300_000, rules: 1},
	{name: "latency", about: "1,000 events a second", events: 20_000, rules: 1, rate: 1000},
	{
		name: "filters", about: "500 requests a second for a filter with a row that takes 10 ms; p50 and p99 without these",
		events: 10_000, rules: 1, rate: 500, delay: 10 * time.Millisecond, filters: true,
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
		if err := bed.publish(ctx, s.events); err != nil {
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
	var got arrivals
	f.daemon.CPU, f.daemon.Peak, err = d.spent(func() error {
		if s.rate > 0 {
			if err := b.pace(ctx, s); err != nil {
				return err
			}
		}
		poll := time.NewTicker(20 * time.Millisecond)
		defer poll.Stop()
		for got.Distinct < s.events {
			if err := d.wait(ctx, poll.C); err != nil {
				return fmt.Errorf("%d of %d events arrived: %w", got.Distinct, s.events, err)
			}
			if err := stats(ctx, b.receiverURL, &got); err != nil {
				return fmt.Errorf("ask the receiver: %w", err)
			}
		}
		return nil
	})
	f.daemon.Requests, f.repeats = got.Count, got.Count-got.Distinct
	f.daemon.Took = time.Duration(got.Last - got.First)
	f.p50, f.p99 = got.P50, got.P99
	return f, err
}

// settleTime is how long an idle daemon is measured: a few refreshes of the rules.
const settleTime = 20 * time.Second

func idle(ctx context.Context, d *process) (f figures, err error) {
	cpu, peak, err := d.spent(func() error { return d.wait(ctx, time.After(settleTime)) })
	f.idleCPU, f.daemon.Peak = float64(cpu)/float64(settleTime), peak
	return f, err
}

// plainClient sends the last delivery's body to the receiver, once for each event.
func (b *bed) plainClient(ctx context.Context, s scenario) (result side, err error) {
	cmd, err := self(ctx, "client", "--url", b.receiverURL, "--requests", fmt.Sprint(s.events))
	if err != nil {
		return result, err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	text, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(text, &result)
	}
	if err != nil {
		return result, fmt.Errorf("plain client: %w", err)
	}
	return result, nil
}
