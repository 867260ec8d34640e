//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// TestFailuresBecomeRowsAndAreTriedAgain has a rule for each way to fail and one event for all.
func TestFailuresBecomeRowsAndAreTriedAgain(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	s.Producer.CreateTopic(harness.Registrations, 1)
	released := make(chan struct{})
	scripts := map[string]harness.Script{
		"recovers": redirects(s.URL("redirected"), harness.Answers(500, 302, 404, 200)),
		"never":    harness.Answers(503),
		"gone":     harness.Answers(410),
		"slow":     func(int, *harness.Received) harness.Reply { return harness.Reply{Status: 200, After: released} },
		"slow-fails": func(n int, _ *harness.Received) harness.Reply {
			if n == 1 {
				return harness.Reply{Status: 500, After: released}
			}
			return harness.Reply{Status: 200}
		},
		"rate":        retryAfter(429, "3", 2),
		"unavailable": retryAfter(503, "2", 1),
		"hangs": func(n int, _ *harness.Received) harness.Reply {
			return harness.Reply{Status: 200, After: firstOnly(n, make(chan struct{}))}
		},
	}
	rules := map[string]string{}
	for hook, script := range scripts {
		s.On(hook, script)
		rules[hook] = s.Rule(hook)
	}
	rules["healthy"] = s.Rule("healthy")
	d := s.Serve("WEBHOOK_DISPATCHER_RETRY_SCHEDULE=1s,1s,2s", "WEBHOOK_DISPATCHER_TIMEOUT=4s", "WEBHOOK_DISPATCHER_HAND_OFF_AFTER=2s")
	s.Producer.Publish(harness.Registrations, 1, 1, 1)

	// Rows release the offset long before the slow request or the retry schedule ends.
	offset := harness.Eventually(t, 10*time.Second, "the offset", func() error {
		return s.Producer.AllCommitted(harness.Registrations)
	})
	if n := s.Count("slow"); n != 1 {
		t.Errorf("the slow hook has had %d requests", n)
	}
	if state := s.Row(rules["slow"]).State; state != "leased" {
		t.Errorf("the row of the slow request is %s while it goes on", state)
	}
	if n := s.Rows("rule_id = ?", rules["healthy"]); n != 0 {
		t.Errorf("the healthy rule has %d rows", n)
	}
	close(released)
	wanted := map[string]harness.Row{
		"recovers":    {State: "delivered", Attempts: 4, Status: 200},
		"never":       {State: "dead", Attempts: 4, Status: 503, Reason: "exhausted"},
		"gone":        {State: "dead", Attempts: 1, Status: 410, Reason: "gone"},
		"slow":        {State: "delivered", Attempts: 1, Status: 200},
		"slow-fails":  {State: "delivered", Attempts: 2, Status: 200},
		"rate":        {State: "delivered", Attempts: 1, Status: 200},
		"unavailable": {State: "delivered", Attempts: 1, Status: 200},
		"hangs":       {State: "delivered", Attempts: 2, Status: 200},
	}
	for hook, wanted := range wanted {
		harness.Eventually(t, 30*time.Second, hook, func() error {
			return harness.Want("row", s.Row(rules[hook]), wanted)
		})
	}
	for hook, gaps := range map[string][]time.Duration{
		"recovers": {time.Second, time.Second, 2 * time.Second}, "never": {time.Second, time.Second, 2 * time.Second},
		"rate": {3 * time.Second, 3 * time.Second}, "unavailable": {2 * time.Second}, "hangs": {5 * time.Second},
	} {
		if err := checkTries(s, hook, gaps); err != nil {
			t.Errorf("%s: %v", hook, err)
		}
	}
	logged := map[string]int{
		"recovers": 4, "never": 4, "gone": 1, "slow": 1, "slow-fails": 2, "rate": 3, "unavailable": 2, "hangs": 2, "healthy": 0,
	}
	for hook, n := range logged {
		harness.Eventually(t, 10*time.Second, hook+" in the attempt log", func() error {
			got, err := s.Number("SELECT COUNT(*) FROM webhook_dispatcher_attempt WHERE rule_id = ?", rules[hook])
			return errors.Join(err, harness.Want("number", got, n))
		})
	}
	if n := s.Count("redirected"); n != 0 {
		t.Errorf("a redirect was followed %d times", n)
	}
	if n := s.Rows("state = 2 AND (LENGTH(body) > 0 OR due_at IS NOT NULL)"); n > 0 {
		t.Errorf("%d delivered rows keep their body or a due time", n)
	}
	harness.Figure(t,
		"offset committed after %s with a request under way; rows: %d; stopped in %s",
		offset, len(wanted), d.Terminate())
}

// redirects adds a Location to a script's redirects.
func redirects(to string, answer harness.Script) harness.Script {
	return func(n int, r *harness.Received) harness.Reply {
		response := answer(n, r)
		if response.Status/100 == 3 {
			response.Header = map[string]string{"Location": to}
		}
		return response
	}
}

// retryAfter answers with status and Retry-After n times, then 200.
func retryAfter(status int, seconds string, n int) harness.Script {
	return func(try int, _ *harness.Received) harness.Reply {
		if try > n {
			return harness.Reply{Status: http.StatusOK}
		}
		return harness.Reply{Status: status, Header: map[string]string{"Retry-After": seconds}}
	}
}

// firstOnly returns the channel for the first try and nil for later ones.
func firstOnly(n int, after <-chan struct{}) <-chan struct{} {
	if n == 1 {
		return after
	}
	return nil
}

// checkTries checks that a hook was tried with these pauses, allowing for jitter and claim delay,
// and with one id and body.
func checkTries(s *harness.Site, hook string, pauses []time.Duration) error {
	tries := s.Got(hook)
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
	s.T.Logf("%-12s tried again after %v", hook, took)
	return errors.Join(errs...)
}
