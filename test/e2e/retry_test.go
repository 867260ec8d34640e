//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"
)

// TestFailuresBecomeRowsAndAreTriedAgain has one rule for each way to fail, and one event for all.
func TestFailuresBecomeRowsAndAreTriedAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.producer.create(registrations, 1)
	released := make(chan struct{})
	scripts := map[string]script{
		"recovers": redirects(s.url("redirected"), answers(500, 302, 404, 200)),
		"never":    answers(503),
		"gone":     answers(410),
		"slow":     func(int, *received) reply { return reply{status: 200, after: released} },
		"slow-fails": func(n int, _ *received) reply {
			if n == 1 {
				return reply{status: 500, after: released}
			}
			return reply{status: 200}
		},
		"rate":        retryAfter(429, "3", 2),
		"unavailable": retryAfter(503, "2", 1),
		"hangs":       func(n int, _ *received) reply { return reply{status: 200, after: firstOnly(n, make(chan struct{}))} },
	}
	rules := map[string]string{}
	for hook, script := range scripts {
		s.on(hook, script)
		rules[hook] = s.rule(hook)
	}
	rules["healthy"] = s.rule("healthy")
	d := s.serve("WEBHOOK_DISPATCHER_RETRY_SCHEDULE=1s,1s,2s", "WEBHOOK_DISPATCHER_TIMEOUT=4s", "WEBHOOK_DISPATCHER_HAND_OFF_AFTER=2s")
	s.producer.publish(registrations, 1, 1, 1)

	// The offset is released by rows, long before the slow request ends or the schedule does.
	offset := eventually(t, 10*time.Second, "the offset", func() error { return s.producer.allCommitted(registrations) })
	if n := s.count("slow"); n != 1 {
		t.Errorf("the slow hook has had %d requests", n)
	}
	if state := s.row(rules["slow"]).state; state != "leased" {
		t.Errorf("the row of the slow request is %s while it goes on", state)
	}
	if n := s.rows("rule_id = ?", rules["healthy"]); n != 0 {
		t.Errorf("the healthy rule has %d rows", n)
	}
	close(released)
	wanted := map[string]row{
		"recovers":    {state: "delivered", attempts: 4, status: 200},
		"never":       {state: "dead", attempts: 4, status: 503, reason: "exhausted"},
		"gone":        {state: "dead", attempts: 1, status: 410, reason: "gone"},
		"slow":        {state: "delivered", attempts: 1, status: 200},
		"slow-fails":  {state: "delivered", attempts: 2, status: 200},
		"rate":        {state: "delivered", attempts: 1, status: 200},
		"unavailable": {state: "delivered", attempts: 1, status: 200},
		"hangs":       {state: "delivered", attempts: 2, status: 200},
	}
	for hook, wanted := range wanted {
		eventually(t, 30*time.Second, hook, func() error { return want("row", s.row(rules[hook]), wanted) })
	}
	for hook, gaps := range map[string][]time.Duration{
		"recovers": {time.Second, time.Second, 2 * time.Second}, "never": {time.Second, time.Second, 2 * time.Second},
		"rate": {3 * time.Second, 3 * time.Second}, "unavailable": {2 * time.Second}, "hangs": {5 * time.Second},
	} {
		if err := s.checkTries(hook, gaps); err != nil {
			t.Errorf("%s: %v", hook, err)
		}
	}
	logged := map[string]int{
		"recovers": 4, "never": 4, "gone": 1, "slow": 1, "slow-fails": 2, "rate": 3, "unavailable": 2, "hangs": 2, "healthy": 0,
	}
	for hook, n := range logged {
		eventually(t, 10*time.Second, hook+" in the attempt log", func() error {
			got, err := s.number("SELECT COUNT(*) FROM webhook_dispatcher_attempt WHERE rule_id = ?", rules[hook])
			return errors.Join(err, want("number", got, n))
		})
	}
	if n := s.count("redirected"); n != 0 {
		t.Errorf("a redirect was followed %d times", n)
	}
	if n := s.rows("state = 2 AND (LENGTH(body) > 0 OR due_at IS NOT NULL)"); n > 0 {
		t.Errorf("%d delivered rows keep their body or a due time", n)
	}
	figure(t, "offset committed after %s with a request under way; rows: %d; stopped in %s", offset, len(wanted), d.terminate())
}

// redirects adds a Location to the redirects of a script.
func redirects(to string, answer script) script {
	return func(n int, r *received) reply {
		response := answer(n, r)
		if response.status/100 == 3 {
			response.header = map[string]string{"Location": to}
		}
		return response
	}
}

// retryAfter answers n times that the sender should come back later, then 200.
func retryAfter(status int, seconds string, n int) script {
	return func(try int, _ *received) reply {
		if try > n {
			return reply{status: http.StatusOK}
		}
		return reply{status: status, header: map[string]string{"Retry-After": seconds}}
	}
}

// firstOnly returns the channel for the first try and nil for later ones.
func firstOnly(n int, after <-chan struct{}) <-chan struct{} {
	if n == 1 {
		return after
	}
	return nil
}

// row is what tests look at of a row of a delivery.
type row struct {
	state            string
	attempts, status int
	reason           string
}

// row returns the only row of a rule; its state is "" where there is none.
func (s *site) row(rule string) row {
	s.t.Helper()
	rows, err := s.db.Query(`SELECT ELT(state+1,'pending','leased','delivered','dead','halted'), attempts, last_status, reason
  FROM webhook_dispatcher_delivery WHERE rule_id = ?`, rule)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var r row
	for n := 0; rows.Next(); n++ {
		if n > 0 {
			s.t.Fatalf("rule %s has more than one row", rule)
		}
		if err := rows.Scan(&r.state, &r.attempts, &r.status, &r.reason); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := rows.Err(); err != nil {
		s.t.Fatal(err)
	}
	return r
}

// checkTries checks that a hook was tried with these pauses, give or take the jitter and a claim's delay, with one id and one body.
func (s *site) checkTries(hook string, pauses []time.Duration) error {
	tries := s.got(hook)
	if len(tries) != len(pauses)+1 {
		return fmt.Errorf("%d tries, want %d", len(tries), len(pauses)+1)
	}
	var errs []error
	var took []time.Duration
	for i, pause := range pauses {
		gap := tries[i+1].At.Sub(tries[i].At)
		took = append(took, gap.Round(time.Millisecond))
		if gap < pause*8/10 || gap > pause*12/10+3*time.Second {
			errs = append(errs, fmt.Errorf("pause %d was %s, want %s ± 20%%", i+1, gap, pause))
		}
		if tries[i+1].ID != tries[0].ID || tries[i+1].Body != tries[0].Body {
			errs = append(errs, fmt.Errorf("try %d has webhook-id %s and another body than the first, %s", i+2, tries[i+1].ID, tries[0].ID))
		}
		first, second := tries[i].Header.Get("webhook-timestamp"), tries[i+1].Header.Get("webhook-timestamp")
		if gap > 2*time.Second && slices.Compare([]byte(first), []byte(second)) >= 0 {
			errs = append(errs, fmt.Errorf("webhook-timestamp went from %s to %s", first, second))
		}
	}
	s.t.Logf("%-12s tried again after %v", hook, took)
	return errors.Join(errs...)
}
