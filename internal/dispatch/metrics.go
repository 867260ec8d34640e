package dispatch

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/breaker"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/metric"
)

// Results of attempts, as labels.
const (
	resultDelivered = iota
	resultRetry
	resultDead
	resultHalted // the rule's filter left the event out after all
	results
)

var resultNames = [results]string{"delivered", "retry", "dead", "halted"}

var breakerStates = map[breaker.State]string{
	breaker.Closed: "closed", breaker.HalfOpen: "half_open", breaker.Open: "open",
}

type metrics struct {
	decisions [results][2]prometheus.Counter // from memory, from a row
	inFlight  prometheus.Gauge
	queued    prometheus.Gauge
	handOffs  prometheus.Counter
	spilled   prometheus.Counter
	breakers  map[breaker.State]prometheus.Gauge
	openings  prometheus.Counter
	limited   prometheus.Gauge
	overflow  prometheus.Counter

	ruleResults  *prometheus.CounterVec // nil without per-rule metrics
	ruleBreakers *prometheus.GaugeVec
}

// ruleSeries are the metrics of one rule.
type ruleSeries struct {
	id      string
	results [results]prometheus.Counter
	breaker prometheus.Gauge
}

// newMetrics registers the metrics with reg, unless that is nil.
func newMetrics(reg prometheus.Registerer, perRule bool) (*metrics, error) {
	attempts := metric.CounterVec("webhook_dispatcher_delivery_attempts_total",
		"Delivery attempts, by result and by source (memory: first try; row: retry).", "result", "from")
	breakers := metric.GaugeVec("webhook_dispatcher_breakers",
		"Circuit breakers of rules, by state: closed, half_open or open.", "state")
	m := &metrics{
		inFlight: metric.Gauge("webhook_dispatcher_requests_in_flight", "Requests to endpoints in flight."),
		queued: metric.Gauge("webhook_dispatcher_deliveries_queued",
			"Deliveries waiting in memory."),
		handOffs: metric.Counter("webhook_dispatcher_hand_offs_total",
			"First tries stored as rows while their request was in flight."),
		spilled: metric.Counter("webhook_dispatcher_deliveries_spilled_total",
			"Deliveries stored as rows because their rule blocked others."),
		openings: metric.Counter("webhook_dispatcher_breaker_openings_total",
			"Circuit breakers opened after being closed; a failed probe is not counted."),
		limited: metric.Gauge("webhook_dispatcher_rules_at_queue_limit",
			"Rules at their queue limit; their deliveries wait in memory and block their partitions."),
		overflow: metric.Counter("webhook_dispatcher_deliveries_overflowed_total",
			"Deliveries dead-lettered without a body because of a queue limit."),
		breakers: make(map[breaker.State]prometheus.Gauge, len(breakerStates)),
	}
	for i, result := range resultNames {
		m.decisions[i] = [2]prometheus.Counter{attempts.WithLabelValues(result, "memory"), attempts.WithLabelValues(result, "row")}
	}
	for state, name := range breakerStates {
		m.breakers[state] = breakers.WithLabelValues(name)
	}
	if perRule {
		m.ruleResults = metric.CounterVec("webhook_dispatcher_rule_deliveries_total",
			"Delivery attempts, by rule and result.", "rule_id", "result")
		m.ruleBreakers = metric.GaugeVec("webhook_dispatcher_breaker_state",
			"Circuit breaker state of each rule with deliveries: 0 closed, 1 half-open, 2 open.", "rule_id")
	}
	all := []prometheus.Collector{attempts, m.inFlight, m.queued, m.handOffs, m.spilled, breakers, m.openings, m.limited, m.overflow}
	if perRule {
		all = append(all, m.ruleResults, m.ruleBreakers)
	}
	return m, metric.Register(reg, all...)
}

// series counts a new lane, and returns its own metrics, nil without per-rule metrics.
func (m *metrics) series(key delivery.Lane) *ruleSeries {
	m.breakers[breaker.Closed].Inc()
	if m.ruleResults == nil || key.Kind != delivery.KindWebhook {
		return nil
	}
	s := &ruleSeries{id: strconv.Itoa(int(key.RuleID))}
	for i, result := range resultNames {
		s.results[i] = m.ruleResults.WithLabelValues(s.id, result)
	}
	s.breaker = m.ruleBreakers.WithLabelValues(s.id)
	s.breaker.Set(0)
	return s
}

// removed takes a lane out again.
func (m *metrics) removed(s *ruleSeries, state breaker.State) {
	m.breakers[state].Dec()
	if s == nil {
		return
	}
	m.ruleBreakers.DeleteLabelValues(s.id)
	for _, result := range resultNames {
		m.ruleResults.DeleteLabelValues(s.id, result)
	}
}

// turned counts a breaker that has changed its state.
func (m *metrics) turned(s *ruleSeries, from, to breaker.State) {
	m.breakers[from].Dec()
	m.breakers[to].Inc()
	if s != nil {
		s.breaker.Set(float64(to)) // gobreaker's numbers are those of the help text
	}
}

func (m *metrics) decided(s *ruleSeries, v delivery.Decision, row bool) {
	result, from := resultRetry, 0
	switch v.State {
	case delivery.Delivered:
		result = resultDelivered
	case delivery.Dead:
		result = resultDead
	case delivery.Halted:
		result = resultHalted
	default:
	}
	if row {
		from = 1
	}
	m.decisions[result][from].Inc()
	if s != nil {
		s.results[result].Inc()
	}
}
