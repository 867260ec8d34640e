package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/backoff"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/metric"
)

// DepthStore is the database as the gauge needs it.
type DepthStore interface {
	// MeasureLanes counts what waits in each lane and writes it to the lane records, unless a replica has begun to within the time every.
	MeasureLanes(ctx context.Context, every time.Duration) (measured bool, err error)
	// LaneRecords returns what was measured.
	LaneRecords(ctx context.Context) (delivery.LaneRecords, error)
}

// DepthMonitorOptions are what a gauge needs.
type DepthMonitorOptions struct {
	Store  DepthStore // required
	Limits QueueLimits
	// PerRule also exposes a series for each rule that has rows waiting.
	PerRule    bool
	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil: no metrics
}

// DepthMonitor knows how much waits in the database. One replica measures, every 30 s, and oftener while more than 80 % of a limit is used; all
// read the result. What this process stored and ended since counts, too, so that a limit holds between measurements; what other replicas
// did since does not.
//
// Where measuring fails, the last numbers stay and what this process does is counted on.
type DepthMonitor struct {
	store   DepthStore
	ledger  *ledger
	logger  *slog.Logger
	metrics *gaugeMetrics

	took time.Duration // how long this process's last measurement took
}

const (
	readEvery    = 5 * time.Second // how late the numbers of another replica may be seen
	measureEvery = 30 * time.Second
	measureOften = 4 * time.Second // while much of a limit is used, so that it is noticed soon when rows have gone
	muchUsed     = 0.8
	// measureShare bounds the time that the database spends on measuring: one part in so many.
	measureShare = 10
	gaugeTime    = 30 * time.Second // for a measurement or a reading
)

// NewDepthMonitor returns a gauge. Until Run has read the records it knows only of what this process has stored.
func NewDepthMonitor(o DepthMonitorOptions) (*DepthMonitor, error) {
	if o.Store == nil {
		return nil, errors.New("queue gauge: no store")
	}
	if o.Limits.RuleRows < 0 || o.Limits.Rows < 0 || o.Limits.Bytes < 0 {
		return nil, errors.New("queue gauge: a park limit is below 0")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	metrics, err := newGaugeMetrics(o.Registerer, o.PerRule)
	if err != nil {
		return nil, fmt.Errorf("depth monitor: %w", err)
	}
	return &DepthMonitor{store: o.Store, ledger: newLedger(o.Limits), logger: o.Logger, metrics: metrics}, nil
}

// Full tells whether as many rows of the lane wait as may, or as many in all. It looks at memory alone, and may be called from any
// goroutine.
func (g *DepthMonitor) Full(lane delivery.Lane) bool { return g.ledger.full(lane) }

// LaneFull tells whether as many rows of the lane wait as may of one rule, however many wait in all. It is for rows that take the place of
// another: by the limits in all, events that fill them could never become deliveries, and nothing would ever go.
func (g *DepthMonitor) LaneFull(lane delivery.Lane) bool { return g.ledger.laneFull(lane) }

// book returns the gauge's ledger, nil where there is no gauge.
func (g *DepthMonitor) book() *ledger {
	if g == nil {
		return nil
	}
	return g.ledger
}

// Run measures and reads until ctx ends.
func (g *DepthMonitor) Run(ctx context.Context) {
	measuring, reading := streakLog{logger: g.logger}, streakLog{logger: g.logger}
	reading.note(ctx, "read what waits", g.read(ctx)) // measuring may take its time
	for ctx.Err() == nil {
		// Reading goes on where measuring fails: another replica may be luckier.
		measuring.note(ctx, "measure what waits", g.measure(ctx))
		reading.note(ctx, "read what waits", g.read(ctx))
		if backoff.Sleep(ctx, backoff.Jitter(readEvery)) != nil {
			return
		}
	}
}

func (g *DepthMonitor) measure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, gaugeTime)
	defer cancel()
	every := measureEvery
	if g.ledger.used() > muchUsed {
		every = measureOften
	}
	start := time.Now()
	measured, err := g.store.MeasureLanes(ctx, max(every, measureShare*g.took))
	// One that is cut short tells how long it takes at least; one that was left to another replica tells nothing.
	if took := time.Since(start); measured || (err != nil && took > g.took) {
		g.took = took
	}
	return err
}

func (g *DepthMonitor) read(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, gaugeTime)
	defer cancel()
	asked := time.Now()
	records, err := g.store.LaneRecords(ctx)
	if err != nil {
		g.metrics.limitUsed.Set(g.ledger.used())
		return err
	}
	g.ledger.read(records, asked)
	g.metrics.show(records, asked)
	g.metrics.limitUsed.Set(g.ledger.used())
	return nil
}

type gaugeMetrics struct {
	rows       *prometheus.GaugeVec
	bytes      prometheus.Gauge
	oldest     prometheus.Gauge
	lanes      prometheus.Gauge
	failing    prometheus.Gauge
	limitUsed  prometheus.Gauge
	perRule    *prometheus.GaugeVec // nil: not asked for
	rules      map[int32]bool       // of the series of perRule
	measuredAt atomic.Pointer[time.Time]
}

// same is part of each help text: the numbers are the database's, not the replica's.
const same = " The same on every replica: take the max, not the sum."

func newGaugeMetrics(reg prometheus.Registerer, perRule bool) (*gaugeMetrics, error) {
	m := &gaugeMetrics{
		rows: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "webhook_dispatcher_queue_rows", Help: "Rows in the database: waiting (pending or being sent) and dead." + same,
		}, []string{"state"}),
		bytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "webhook_dispatcher_queue_bytes", Help: "Bytes of the bodies of the waiting rows." + same,
		}),
		oldest: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "webhook_dispatcher_queue_oldest_due_seconds",
			Help: "How long the row has been due that was due first; 0: none is. Rows of disabled and paused rules count." + same,
		}),
		lanes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "webhook_dispatcher_queue_rules", Help: "Rules that have rows waiting." + same,
		}),
		failing: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "webhook_dispatcher_queue_rules_failing", Help: "Rules whose endpoint has taken nothing from any replica for 10 minutes." + same,
		}),
		limitUsed: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "webhook_dispatcher_queue_limit_used_ratio",
			Help: "How much of the park limit that is the nearest is used, in this replica's view; from 1 on what is to wait is held or dead.",
		}),
	}
	measured := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "webhook_dispatcher_queue_last_measured_timestamp_seconds",
		Help: "When the queue's numbers were measured, as Unix time; 0: never." + same,
	}, func() float64 {
		at := m.measuredAt.Load()
		if at == nil {
			return 0
		}
		return float64(at.UnixMicro()) / 1e6
	})
	m.rows.WithLabelValues("waiting")
	m.rows.WithLabelValues("dead")
	if perRule {
		m.rules = make(map[int32]bool)
		m.perRule = prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "webhook_dispatcher_rule_rows", Help: "Waiting rows of a rule; no series where there are none." + same,
		}, []string{"rule_id"})
	}
	all := []prometheus.Collector{m.rows, m.bytes, m.oldest, m.lanes, m.failing, m.limitUsed, measured}
	if perRule {
		all = append(all, m.perRule)
	}
	return m, metric.Register(reg, all...)
}

func (m *gaugeMetrics) show(records delivery.LaneRecords, asked time.Time) {
	var rows, bytes, lanes, failing int64
	var oldest time.Duration
	seen := make(map[int32]bool)
	if records.Measured {
		at := asked.Add(-records.MeasuredFor)
		m.measuredAt.Store(&at)
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
