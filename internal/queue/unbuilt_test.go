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

// A filter or transform that fails for one event after another pauses its rule, and one that fails
// for some events does not: those that it takes go out.
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

// overruns is what a delivery does whose transform was stopped.
func (p *process) overruns(l delivery.Lane, runs delivery.Runs) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.health[l]
	h.NoteRenderFailure(delivery.RenderFailure{Stage: delivery.StageTransform, Runs: runs, TooLong: true})
	p.health[l] = h
}

// The third run that takes too long pauses the rule: each delays the events of all rules.
func TestRuleThatRunsTooLongIsPaused(t *testing.T) {
	t.Parallel()
	withReplicas(t, 1, func(t *testing.T, s *marks, p []*process) {
		some := delivery.Lane{Kind: delivery.KindWebhook, RuleID: 2}
		for i := range 10 { // with good runs between them
			p[0].overruns(some, delivery.Runs{Good: uint64(i)})
		}
		p[0].overruns(lane1, delivery.Runs{})
		p[0].overruns(lane1, delivery.Runs{})
		pass(time.Minute)
		if s.made() != 0 {
			t.Error("paused after two in a row")
		}
		p[0].overruns(lane1, delivery.Runs{})
		pass(10 * time.Second)
		if s.made() != 1 || s.reason(lane1) != delivery.ReasonExpression {
			t.Errorf("%d pauses, reason %q; want one", s.made(), s.reason(lane1))
		}
		if logs := p[0].logs.String(); !strings.Contains(logs, "ran too long for 3 events") {
			t.Errorf("want a line that says why, got: %s", logs)
		}
	})
}
