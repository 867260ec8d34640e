package sender

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

const (
	// repeatEvery is how often a failure that goes on is logged again, with the number of those since.
	repeatEvery = time.Hour
	// Beyond lineBurst lines, one endpoint gets a line each lineEvery: one whose answers change with every request, or
	// that fails every second time, would fill the log otherwise.
	lineBurst = 4
	lineEvery = time.Minute
	// maxLanes bounds what is remembered. With more failing endpoints some are logged more often than they need to be.
	maxLanes = 8192
)

// journal logs what comes of attempts: a failure of a rule when it begins or changes, then a summary now and then, and its end.
type journal struct {
	logger *slog.Logger
	now    func() time.Time

	// failing counts the lanes that fail, so that a success takes the lock only while there is one.
	failing atomic.Int64
	mu      sync.Mutex
	lanes   map[delivery.Lane]*laneLog // guarded by mu; rules that have failed
}

type laneLog struct {
	failing bool
	key     string // of the failure logged last
	at      time.Time
	failed  int // since the last line
	lines   *rate.Limiter
}

func newJournal(logger *slog.Logger, now func() time.Time) *journal {
	return &journal{logger: logger, now: now, lanes: make(map[delivery.Lane]*laneLog)}
}

// record logs an attempt, or leaves it to a later summary. Nothing of URL, body or answer gets into a line but scheme and
// host.
func (j *journal) record(ctx context.Context, r *rule.Rule, a *delivery.Attempt, location string, cause error) {
	// Once a process stops, its own cancellations say nothing about an endpoint.
	if a.OK() || a.Class == delivery.ClassCancelled {
		if a.OK() {
			j.succeeded(ctx, r, a)
		}
		if j.logger.Enabled(ctx, slog.LevelDebug) {
			j.logger.LogAttrs(ctx, slog.LevelDebug, "attempt ended", attrs(r, a)...)
		}
		return
	}
	key := string(a.Class)
	if a.Class == "" {
		key = strconv.Itoa(a.Status) + location
	}
	failed, log := j.failed(r.Lane(), key)
	if !log {
		return
	}
	list := append(attrs(r, a), slog.Int("failures", failed))
	message := "attempt failed"
	switch {
	case location != "":
		message = "the endpoint redirects, which is not followed: change the URL of the rule"
		list = append(list, slog.String("location", location))
	case a.Class == "" && a.Status >= 300 && a.Status <= 399:
		message = "the endpoint redirects, which is not followed: change the URL of the rule"
	}
	if detail := detailOf(a, cause); detail != "" {
		list = append(list, slog.String("detail", detail))
	}
	level := slog.LevelWarn
	if a.Status == http.StatusTooManyRequests {
		level = slog.LevelInfo // the endpoint works, and says when to come again
	}
	j.logger.LogAttrs(ctx, level, message, list...) //nolint:sloglint // one of a few constants
}

func attrs(r *rule.Rule, a *delivery.Attempt) []slog.Attr {
	row := "rule_id"
	if a.Kind == delivery.KindEvent {
		row = "webfilter" // a row of the plugin's other table, whose ids are its own
	}
	list := make([]slog.Attr, 0, 12)
	list = append(list,
		slog.Int(row, int(a.RuleID)), slog.String("kind", a.Kind.String()), slog.String("target", r.Target),
		slog.String("webhook_id", a.ID.String()), slog.Int("attempt", a.Number), slog.Duration("duration", a.Duration))
	if a.Status != 0 {
		list = append(list, slog.Int("status", a.Status))
	}
	if a.Class != "" {
		list = append(list, slog.String("class", string(a.Class)))
	}
	if a.RetryAfter > 0 {
		list = append(list, slog.Duration("retry_after", a.RetryAfter))
	}
	return list
}

// failed notes a failure and tells whether to log it, with the number of failures since the last line, this one included.
func (j *journal) failed(lane delivery.Lane, key string) (int, bool) {
	now := j.now()
	j.mu.Lock()
	defer j.mu.Unlock()
	l := j.lanes[lane]
	if l == nil {
		if len(j.lanes) >= maxLanes {
			j.forgetOne()
		}
		l = &laneLog{lines: rate.NewLimiter(rate.Every(lineEvery), lineBurst)}
		j.lanes[lane] = l
	}
	l.failed++
	same := l.failing && l.key == key && now.Sub(l.at) < repeatEvery
	if !l.failing {
		l.failing = true
		j.failing.Add(1)
	}
	if same || !l.lines.AllowN(now, 1) {
		return 0, false
	}
	failed := l.failed
	l.key, l.at, l.failed = key, now, 0
	return failed, true
}

func (j *journal) succeeded(ctx context.Context, r *rule.Rule, a *delivery.Attempt) {
	if j.failing.Load() == 0 {
		return
	}
	j.mu.Lock()
	l := j.lanes[r.Lane()]
	log, failed := false, 0
	if l != nil && l.failing {
		now := j.now()
		l.failing = false
		j.failing.Add(-1)
		if log = l.lines.AllowN(now, 1); log {
			failed, l.failed, l.at = l.failed, 0, now
		}
	}
	j.mu.Unlock()
	if log {
		j.logger.LogAttrs(ctx, slog.LevelInfo, "the endpoint takes deliveries again", append(attrs(r, a), slog.Int("failures", failed))...)
	}
}

// forgetOne makes room for a lane. The lock is held.
func (j *journal) forgetOne() {
	for lane, l := range j.lanes {
		if l.failing {
			j.failing.Add(-1)
		}
		delete(j.lanes, lane)
		return
	}
}
