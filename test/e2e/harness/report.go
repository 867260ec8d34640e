//go:build e2e

package harness

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// Spread is the distribution of some times, as percentiles.
type Spread struct {
	P50, P90, P99, Max time.Duration
}

// SpreadOf returns the distribution of times, which it sorts.
func SpreadOf(times []time.Duration) Spread {
	if len(times) == 0 {
		return Spread{}
	}
	slices.Sort(times)
	at := func(share float64) time.Duration { return times[int(share*float64(len(times)-1))] }
	return Spread{P50: at(0.5), P90: at(0.9), P99: at(0.99), Max: times[len(times)-1]}
}

// String shows the distribution in milliseconds.
func (s Spread) String() string {
	return fmt.Sprintf("p50 %s, p99 %s, max %s",
		s.P50.Round(time.Millisecond/10), s.P99.Round(time.Millisecond), s.Max.Round(time.Millisecond))
}

// Figure adds what a test has measured to its log and to the table at the end of the run.
func Figure(t *testing.T, format string, args ...any) {
	t.Helper()
	text := fmt.Sprintf(format, args...)
	t.Log(text)
	bench.mu.Lock()
	defer bench.mu.Unlock()
	bench.figures = append(bench.figures, fmt.Sprintf("%-46s %s", strings.TrimPrefix(t.Name(), "Test"), text))
}
