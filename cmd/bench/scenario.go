package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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
		result.Took, err = time.ParseDuration(strings.TrimSpace(string(text)))
	}
	if err != nil {
		return result, fmt.Errorf("plain client: %w", err)
	}
	result.Requests, result.CPU = s.events, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime()
	return result, nil
}

// side holds the measurements of one of the two senders.
type side struct {
	Requests int
	Took     time.Duration // from the first request to the last
	CPU      time.Duration // of the process, kernel included
	Peak     int64         // resident memory in bytes
}

func (s side) rate() float64 { return float64(s.Requests) / s.Took.Seconds() }

func (s side) each() float64 { return float64(s.CPU.Nanoseconds()) / 1000 / float64(s.Requests) }

// figures is one run of one scenario.
type figures struct {
	daemon, client side
	repeats        int
	p50, p99       time.Duration // from publish to POST, if events are published at a rate
	idleCPU        float64       // share of one CPU, if there are no events
}

// percentiles are durations that half of all, and 99 %, do not exceed.
type percentiles struct{ P50, P99 time.Duration }

// percentilesOf returns zeros for none.
func percentilesOf(all []time.Duration) percentiles {
	if len(all) == 0 {
		return percentiles{}
	}
	sorted := slices.Sorted(slices.Values(all))
	return percentiles{P50: sorted[len(all)/2], P99: sorted[len(all)*99/100]}
}

// median returns the run with the median p99, or the median rate if there is no p99.
func median(runs []figures) figures {
	slices.SortFunc(runs, func(a, b figures) int {
		return cmp.Or(cmp.Compare(a.p99, b.p99), cmp.Compare(a.daemon.Took, b.daemon.Took))
	})
	return runs[len(runs)/2]
}

const tableHead = `
| scenario | deliveries/s | plain client/s | share | CPU µs each | plain client | times | peak MiB | repeats | p50 ms | p99 ms |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|
`

func (f figures) row(s scenario) string {
	mib := float64(f.daemon.Peak) / (1 << 20)
	switch {
	case s.idle:
		return fmt.Sprintf("| %s | | | | | | | %.0f | | | | (%.1f %% of one CPU)", s.name, mib, 100*f.idleCPU)
	case s.rate > 0:
		return fmt.Sprintf("| %s | %.0f | | | %.1f | | | %.0f | %d | %.1f | %.1f |",
			s.name, f.daemon.rate(), f.daemon.each(), mib, f.repeats, milliseconds(f.p50), milliseconds(f.p99))
	}
	return fmt.Sprintf("| %s | %.0f | %.0f | %.0f %% | %.1f | %.1f | %.2f | %.0f | %d | | |",
		s.name, f.daemon.rate(), f.client.rate(), 100*f.daemon.rate()/f.client.rate(),
		f.daemon.each(), f.client.each(), f.daemon.each()/f.client.each(), mib, f.repeats)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
