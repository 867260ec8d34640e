package sender

import (
	"context"
	"io"
	"log"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

func discard() *log.Logger { return log.New(io.Discard, "", 0) }

// story is an attempt logger with a clock of its own, told what came of attempts.
type story struct {
	out *output
	now time.Time
	j   *attemptLogger
}

func newStory() *story {
	s := &story{out: &output{}, now: time.Unix(1_700_000_000, 0)}
	s.j = newAttemptLogger(s.out.logger(), func() time.Time { return s.now })
	return s
}

func (s *story) tell(rule int32, status int, class delivery.ErrorClass, location string) {
	r := ruleFor("http://h/")
	r.ID = rule
	a := delivery.Attempt{Kind: delivery.KindWebhook, RuleID: rule, Status: status, Class: class}
	s.j.record(context.Background(), r, &a, location, nil)
}

// count returns the lines above debug.
func (s *story) count() int {
	n := 0
	for _, line := range s.out.lines() {
		if line != "" && !strings.Contains(line, "level=DEBUG") {
			n++
		}
	}
	return n
}

func (s *story) last() string {
	lines := s.out.lines()
	return lines[len(lines)-1]
}

func TestAttemptLoggerSummarises(t *testing.T) {
	t.Parallel()
	s := newStory()
	s.tell(1, 200, "", "")
	if s.count() != 0 {
		t.Errorf("a success was logged: %s", s.out)
	}
	for range 1000 {
		s.tell(1, 500, "", "")
		s.now = s.now.Add(time.Second)
	}
	if s.count() != 1 || !strings.Contains(s.last(), "level=WARN") || !strings.Contains(s.last(), "status=500") {
		t.Errorf("1000 failures: %s", s.out)
	}
	s.now = s.now.Add(time.Hour)
	s.tell(1, 500, "", "")
	if s.count() != 2 || !strings.Contains(s.last(), "failures=1000") {
		t.Errorf("an hour later: %s", s.out)
	}
	s.tell(1, 0, delivery.ClassTimeout, "")
	if s.count() != 3 || !strings.Contains(s.last(), "class=timeout") {
		t.Errorf("a change: %s", s.out)
	}
	s.tell(1, 204, "", "")
	if s.count() != 4 || !strings.Contains(s.out.String(), "accepts deliveries again") {
		t.Errorf("its end: %s", s.out)
	}
	s.tell(2, 0, delivery.ClassCancelled, "")
	if s.count() != 4 {
		t.Errorf("cancelled by ourselves: %s", s.out)
	}
	s.tell(3, 429, "", "")
	if !strings.Contains(s.last(), "level=INFO") {
		t.Errorf("asked to wait: %s", s.last())
	}
}

// Ids of webfilters and of rules are those of two tables: a line says which one it is about.
func TestAttemptLoggerTellsWebfiltersFromRules(t *testing.T) {
	t.Parallel()
	for kind, want := range map[delivery.Kind]string{
		delivery.KindWebhook: "rule_id=1 kind=webhook", delivery.KindEvent: "webfilter=1 kind=event",
	} {
		s := newStory()
		r := ruleFor("http://h/")
		r.Kind, r.ID = kind, 1
		s.j.record(t.Context(), r, &delivery.Attempt{Kind: kind, RuleID: 1, Class: delivery.ClassTimeout}, "", nil)
		if line := s.last(); !strings.Contains(line, want) || kind == delivery.KindEvent && strings.Contains(line, "rule_id") {
			t.Errorf("%s: %s", kind, line)
		}
	}
}

// Endpoints whose answers change all the time are held to a few lines and then one a minute.
func TestAttemptLoggerIsNotFlooded(t *testing.T) {
	t.Parallel()
	for name, next := range map[string]func(s *story, i int){
		"other status":   func(s *story, i int) { s.tell(1, 400+i%200, "", "") },
		"other location": func(s *story, i int) { s.tell(1, 302, "", "http://h"+strings.Repeat("x", i%200)) },
		"every second":   func(s *story, i int) { s.tell(1, 200+300*(i%2), "", "") },
	} {
		s := newStory()
		for i := range 600 { // ten minutes
			next(s, i)
			s.now = s.now.Add(time.Second)
		}
		if n := s.count(); n < 4 || n > lineBurst+10 {
			t.Errorf("%s: %d lines in ten minutes", name, n)
		}
	}
}

func TestAttemptLoggerIsBounded(t *testing.T) {
	t.Parallel()
	s := newStory()
	for i := range int32(maxRules + 100) {
		s.tell(i, 500, "", "")
	}
	if n := len(s.j.rules); n != maxRules {
		t.Errorf("%d rules are remembered", n)
	}
	if n := s.j.failing.Load(); n != maxRules {
		t.Errorf("%d rules count as failing", n)
	}
	for i := range int32(maxRules + 100) {
		s.tell(i, 200, "", "")
	}
	if n := s.j.failing.Load(); n != 0 {
		t.Errorf("%d rules count as failing after all have recovered", n)
	}
}
