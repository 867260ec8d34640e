package queue_test

import (
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// cannotBuild is what a delivery does to the health of its lane that no body can be made for.
func (p *process) cannotBuild(l delivery.Lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.health[l]
	h.Note(&delivery.Attempt{Class: delivery.ClassExpression, Final: true}, time.Now())
	p.health[l] = h
}

// A filter or transform that fails for one event after another pauses its rule, and one that fails for some events does not: those that it
// takes go out.
func TestRuleThatCannotBeBuiltIsPaused(t *testing.T) {
	t.Parallel()
	withReplicas(t, 2, func(t *testing.T, s *marks, p []*process) {
		some := delivery.Lane{Kind: delivery.KindWebhook, RuleID: 2}
		for range 19 {
			p[0].cannotBuild(lane1)
			p[0].cannotBuild(some)
		}
		p[0].takes(some)
		pass(time.Minute)
		if s.made() != 0 {
			t.Error("paused after 19 deliveries")
		}
		p[0].cannotBuild(lane1)
		p[0].cannotBuild(some)
		for range 20 {
			p[1].cannotBuild(lane1)
		}
		pass(10 * time.Second)
		if s.made() != 1 || s.reason(lane1) != delivery.ReasonExpression {
			t.Errorf("%d pauses, reason %q; want one", s.made(), s.reason(lane1))
		}
		logs := p[0].logs.String() + p[1].logs.String()
		if strings.Count(logs, "level=ERROR") != 1 || !strings.Contains(logs, "filter or transform") ||
			!strings.Contains(logs, "rules set 1 --resume") {
			t.Errorf("want one line that says what to do, got: %s", logs)
		}
		pass(hour)
		before := s.made()
		s.resume(lane1)
		pass(10 * time.Minute)
		if s.made() != before {
			t.Error("resumed, and paused again for what failed before")
		}
		for range 20 {
			p[1].cannotBuild(lane1)
		}
		pass(10 * time.Second)
		if s.made() != before+1 {
			t.Errorf("%d pauses more after 20 new failures, want one", s.made()-before)
		}
	})
}
