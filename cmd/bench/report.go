package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

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
