package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/backoff"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/metric"
)

// DepthStore is the part of the database that a DepthMonitor needs.
type DepthStore interface {
	MeasureLanes(ctx context.Context, every time.Duration) (measured bool, err error)
	LaneRecords(ctx context.Context) (delivery.LaneRecords, error)
}

// DepthMonitorOptions configure a DepthMonitor.
type DepthMonitorOptions struct {
	Store      DepthStore // required
	Limits     Limits
	PerRule    bool                  // adds a series for each rule with waiting rows
	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil: no metrics
}

// DepthMonitor knows how many rows wait in the database. One replica measures every 30 s, or more
// often while more than 80 % of a limit is used; all read the result and add what they have stored
// and ended themselves since, so the limits hold between measurements. If measuring fails, the last
// numbers stay.
type DepthMonitor struct {
	options DepthMonitorOptions
	ledger  *ledger
	metrics *depthMetrics
	took    time.Duration // by this process's last measurement
}

const (
	readEvery    = 5 * time.Second // how old another replica's numbers may get
	measureEvery = 30 * time.Second
	measureOften = 4 * time.Second // while much of a limit is used, to notice soon when it falls
	muchUsed     = 0.8
	measureShare = 10               // at most this fraction (1/10) of the time is spent measuring
	depthTimeout = 30 * time.Second // of measuring, and of reading
)

// NewDepthMonitor returns a monitor. Until Run it knows only of what this process has stored.
func NewDepthMonitor(o DepthMonitorOptions) (*DepthMonitor, error) {
	if o.Store == nil {
		return nil, errors.New("depth monitor: no store")
	}
	if o.Limits.RuleRows < 0 || o.Limits.Rows < 0 || o.Limits.Bytes < 0 {
		return nil, errors.New("depth monitor: a queue limit is below 0")
	}
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	metrics, err := newDepthMetrics(o.Registerer, o.PerRule)
	if err != nil {
		return nil, fmt.Errorf("depth monitor: %w", err)
	}
	return &DepthMonitor{options: o, ledger: newLedger(o.Limits), metrics: metrics}, nil
}

// Full reports whether the lane, or the queue as a whole, is at its limit. It reads memory only,
// and is safe for concurrent use.
func (d *DepthMonitor) Full(lane delivery.Lane) bool { return d.ledger.full(lane) }

// LaneFull reports whether the lane is at the limit of one rule, whatever waits in total. It is for
// rows that replace another: under the total limits an event could never become deliveries, and a
// full queue would never drain.
func (d *DepthMonitor) LaneFull(lane delivery.Lane) bool { return d.ledger.laneFull(lane) }

// book returns the ledger; for a nil monitor one that nobody reads.
func (d *DepthMonitor) book() *ledger {
	if d == nil {
		return newLedger(Limits{})
	}
	return d.ledger
}

// Run measures and reads until ctx ends.
func (d *DepthMonitor) Run(ctx context.Context) {
	measuring, reading := streakLog{logger: d.options.Logger}, streakLog{logger: d.options.Logger}
	reading.note(ctx, "read the queue's depth", d.read(ctx)) // before measuring, which may take a while
	for ctx.Err() == nil {
		// Read even if measuring fails: another replica may have succeeded.
		measuring.note(ctx, "measure the queue", d.measure(ctx))
		reading.note(ctx, "read the queue's depth", d.read(ctx))
		if backoff.Sleep(ctx, backoff.Jitter(readEvery)) != nil {
			return
		}
	}
}

func (d *DepthMonitor) measure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, depthTimeout)
	defer cancel()
	every := measureEvery
	if d.ledger.used() > muchUsed {
		every = measureOften
	}
	start := time.Now()
	measured, err := d.options.Store.MeasureLanes(ctx, max(every, measureShare*d.took))
	// A failed measurement gives a lower bound.
	if took := time.Since(start); measured || (err != nil && took > d.took) {
		d.took = took
	}
	return err
}

func (d *DepthMonitor) read(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, depthTimeout)
	defer cancel()
	asked := time.Now()
	records, err := d.options.Store.LaneRecords(ctx)
	if err == nil {
		d.ledger.update(records, asked)
		d.metrics.show(records, asked)
	}
	d.metrics.limitUsed.Set(d.ledger.used())
	return err
}

type depthMetrics struct {
	rows                                               *prometheus.GaugeVec
	bytes, oldest, lanes, failing, limitUsed, measured prometheus.Gauge
	perRule                                            *prometheus.GaugeVec // nil without PerRule
	rules                                              map[int32]bool       // with a series in perRule
}

// same ends help texts of numbers that come from the database.
const same = " The same on every replica: use max, not sum."

func newDepthMetrics(reg prometheus.Registerer, perRule bool) (*depthMetrics, error) {
	m := &depthMetrics{
		rows: metric.GaugeVec("webhook_dispatcher_queue_rows",
			"Rows in the database by state: waiting (pending or leased) or dead."+same, "state"),
		bytes: metric.Gauge("webhook_dispatcher_queue_bytes", "Total body size of waiting rows."+same),
		oldest: metric.Gauge("webhook_dispatcher_queue_oldest_due_seconds",
			"Time since the oldest due row became due, including rows of disabled and paused rules; 0 if none is due."+same),
		lanes: metric.Gauge("webhook_dispatcher_queue_rules", "Rules with waiting rows."+same),
		failing: metric.Gauge("webhook_dispatcher_queue_rules_failing",
			"Rules whose endpoint has accepted nothing from any replica for 10 minutes."+same),
		limitUsed: metric.Gauge("webhook_dispatcher_queue_limit_used_ratio",
			"Utilisation of the tightest queue limit on this replica; at 1, new rows are held or dead-lettered."),
		measured: metric.Gauge("webhook_dispatcher_queue_last_measured_timestamp_seconds",
			"When the queue was last measured, as Unix time; 0 if never."+same),
	}
	m.rows.WithLabelValues("waiting")
	m.rows.WithLabelValues("dead")
	all := []prometheus.Collector{m.rows, m.bytes, m.oldest, m.lanes, m.failing, m.limitUsed, m.measured}
	if perRule {
		m.perRule = metric.GaugeVec("webhook_dispatcher_rule_rows", "Waiting rows of a rule; absent if there are none."+same, "rule_id")
		all = append(all, m.perRule)
	}
	return m, metric.Register(reg, all...)
}

func (m *depthMetrics) show(records delivery.LaneRecords, asked time.Time) {
	var rows, bytes, lanes, failing int64
	var oldest time.Duration
	seen := make(map[int32]bool)
	if records.Measured {
		m.measured.Set(float64(asked.Add(-records.MeasuredFor).UnixMicro()) / 1e6)
	}
	m.rows.WithLabelValues("dead").Set(float64(records.DeadRows))
	for _, r := range records.Lanes {
		if r.Failing {
			failing++
		}
		if r.Rows == 0 {
			continue
		}
		rows, bytes, lanes = rows+int64(r.Rows), bytes+r.Bytes, lanes+1
		oldest = max(oldest, r.DueFor)
		if m.perRule != nil && r.Lane.Kind == delivery.KindWebhook {
			seen[r.Lane.RuleID] = true
			m.perRule.WithLabelValues(strconv.Itoa(int(r.Lane.RuleID))).Set(float64(r.Rows))
		}
	}
	m.rows.WithLabelValues("waiting").Set(float64(rows))
	m.bytes.Set(float64(bytes))
	m.lanes.Set(float64(lanes))
	m.failing.Set(float64(failing))
	m.oldest.Set(oldest.Seconds())
	for id := range m.rules {
		if !seen[id] {
			m.perRule.DeleteLabelValues(strconv.Itoa(int(id)))
		}
	}
	m.rules = seen
}
