//go:build e2e

package harness

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Metric returns the value of a series, or the sum of all series if only a name is given.
func (d *Daemon) Metric(series string) (float64, error) {
	_, body, err := d.Get("/metrics")
	if err != nil {
		return 0, err
	}
	sum, found := 0.0, false
	for line := range strings.Lines(body) {
		rest, ok := strings.CutPrefix(line, series)
		if !ok || strings.HasPrefix(line, "#") || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' '):]), 64)
		if err != nil {
			return 0, err
		}
		sum, found = sum+value, true
	}
	if !found {
		return 0, fmt.Errorf("there is no metric %s", series)
	}
	return sum, nil
}

// WaitMetric waits until a metric has a value.
func (d *Daemon) WaitMetric(series string, value float64, limit time.Duration) {
	d.t.Helper()
	Eventually(d.t, limit, series, func() error {
		got, err := d.Metric(series)
		if err != nil {
			return err
		}
		return Want("it", got, value)
	})
}

// Notices calls a function that changes rules and waits until the daemon has read the change.
func (d *Daemon) Notices(change func()) {
	d.t.Helper()
	const changes = `webhook_dispatcher_rule_refreshes_total{result="changed"}`
	before, err := d.Metric(changes)
	if err != nil {
		d.t.Fatal(err)
	}
	change()
	Eventually(d.t, 10*time.Second, "the daemon to read the rules", func() error {
		now, err := d.Metric(changes)
		if err == nil && now == before {
			err = errors.New("it has not")
		}
		return err
	})
}

// Goroutines returns how many goroutines the daemon has.
func (d *Daemon) Goroutines() int {
	d.t.Helper()
	n, err := d.Metric("go_goroutines")
	if err != nil {
		d.t.Fatal(err)
	}
	return int(n)
}

// WaitIdle waits until the daemon has about as many goroutines as it had when idle; those of pooled
// connections may come on top. It returns the number.
func (d *Daemon) WaitIdle(idle int) int {
	d.t.Helper()
	const pool = 8
	last := 0
	Eventually(d.t, 75*time.Second, "goroutines", func() error {
		n, err := d.Metric("go_goroutines")
		if last = int(n); err == nil && last > idle+pool {
			err = fmt.Errorf("%d, idle it had %d", last, idle)
		}
		return err
	})
	return last
}

// Peak returns the daemon's peak resident memory so far, in MiB.
func (d *Daemon) Peak() float64 {
	d.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		d.t.Fatal(err)
	}
	found := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindStringSubmatch(string(text))
	if found == nil {
		d.t.Fatalf("no VmHWM in %s", text)
	}
	kib, _ := strconv.ParseFloat(found[1], 64)
	return kib / 1024
}

// PeakMemory is the promised limit of the daemon's memory under any load, in MiB.
const PeakMemory = 128

// EnqueuedBy returns how many rows the daemon has enqueued by reason, as text for Figure.
func (d *Daemon) EnqueuedBy() string {
	d.t.Helper()
	_, body, err := d.Get("/metrics")
	if err != nil {
		return err.Error()
	}
	var parts []string
	series := regexp.MustCompile(`(?m)^webhook_dispatcher_rows_enqueued_total\{reason="(\w*)"\} (\S+)$`)
	for _, m := range series.FindAllStringSubmatch(body, -1) {
		if m[2] != "0" {
			parts = append(parts, m[1]+" "+m[2])
		}
	}
	return strings.Join(parts, ", ")
}
