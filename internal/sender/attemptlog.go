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
	// repeatEvery is how often an ongoing failure is logged again, with a count.
	repeatEvery = time.Hour
	// After lineBurst lines an endpoint gets one line per lineEvery, however often its answers
	// change.
	lineBurst = 4
	lineEvery = time.Minute
	// maxRules bounds the state. With more failing endpoints, some are logged more often.
	maxRules = 8192
)

// attemptLogger logs the results of attempts, throttled: a rule's failure when it begins, changes
// and ends, and a summary every repeatEvery.
type attemptLogger struct {
	logger *slog.Logger
	now    func() time.Time

	// failing counts the failing rules; while it is 0, a success does not take the lock.
	failing atomic.Int64
	mu      sync.Mutex
	rules   map[rule.Key]*ruleLog // guarded by mu; rules that have failed
}

type ruleLog struct {
	failing bool
	what    string // class, or status and location, of the last logged failure
	at      time.Time
	failed  int // since the last line
	lines   *rate.Limiter
}

func newAttemptLogger(logger *slog.Logger, now func() time.Time) *attemptLogger {
	return &attemptLogger{logger: logger, now: now, rules: make(map[rule.Key]*ruleLog)}
}

// record logs an attempt, or leaves it to a later summary. Of URL, body and answer it logs only
// scheme and host.
func (l *attemptLogger) record(ctx context.Context, r *rule.Rule, a *delivery.Attempt, location string, cause error) {
	// Cancellations at shutdown say nothing about an endpoint.
	if a.OK() || a.Class == delivery.ClassCancelled {
		if a.OK() {
			l.succeeded(ctx, r, a)
		}
		if l.logger.Enabled(ctx, slog.LevelDebug) {
			l.logger.LogAttrs(ctx, slog.LevelDebug, "attempt ended", attrs(r, a)...)
		}
		return
	}
	what := string(a.Class)
	if a.Class == "" {
		what = strconv.Itoa(a.Status) + location
	}
	failed, log := l.failed(r.Key(), what)
	if !log {
		return
	}
	list := append(attrs(r, a), slog.Int("failures", failed))
	message := "attempt failed"
	if a.Class == "" && isRedirect(a.Status) {
		message = "the endpoint redirects, which is not followed: change the URL of the rule"
	}
	if location != "" {
		list = append(list, slog.String("location", location))
	}
	if detail := detailOf(a, cause); detail != "" {
		list = append(list, slog.String("detail", detail))
	}
	level := slog.LevelWarn
	if a.Status == http.StatusTooManyRequests {
		level = slog.LevelInfo // the endpoint works and says when to retry
	}
	l.logger.LogAttrs(ctx, level, message, list...) //nolint:sloglint // one of a few constants
}

func attrs(r *rule.Rule, a *delivery.Attempt) []slog.Attr {
	list := make([]slog.Attr, 0, 12)
	list = append(list,
		slog.Int(r.Key().Table.LogKey(), int(a.RuleID)), slog.String("kind", a.Kind.String()), slog.String("target", r.Target),
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

// failed records a failure. It reports whether to log it, and the number of failures since the last
// line, this one included.
func (l *attemptLogger) failed(key rule.Key, what string) (int, bool) {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.rules[key]
	if r == nil {
		if len(l.rules) >= maxRules {
			for known, r := range l.rules { // any
				if r.failing {
					l.failing.Add(-1)
				}
				delete(l.rules, known)
				break
			}
		}
		r = &ruleLog{lines: rate.NewLimiter(rate.Every(lineEvery), lineBurst)}
		l.rules[key] = r
	}
	r.failed++
	same := r.failing && r.what == what && now.Sub(r.at) < repeatEvery
	if !r.failing {
		r.failing = true
		l.failing.Add(1)
	}
	if same || !r.lines.AllowN(now, 1) {
		return 0, false
	}
	failed := r.failed
	r.what, r.at, r.failed = what, now, 0
	return failed, true
}

func (l *attemptLogger) succeeded(ctx context.Context, r *rule.Rule, a *delivery.Attempt) {
	if l.failing.Load() == 0 {
		return
	}
	l.mu.Lock()
	known := l.rules[r.Key()]
	log, failed := false, 0
	if known != nil && known.failing {
		now := l.now()
		known.failing = false
		l.failing.Add(-1)
		if log = known.lines.AllowN(now, 1); log {
			failed, known.failed, known.at = known.failed, 0, now
		}
	}
	l.mu.Unlock()
	if log {
		l.logger.LogAttrs(ctx, slog.LevelInfo, "the endpoint accepts deliveries again", append(attrs(r, a), slog.Int("failures", failed))...)
	}
}
