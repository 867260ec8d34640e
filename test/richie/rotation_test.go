//go:build e2e

package richie

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/plan"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/sender/sendertest"
)

// callers is how many goroutines call the portal for as long as the test runs.
const callers = 3

// call is a call that has ended.
type call struct {
	caller int
	step   int64 // when it began
	status int
	answer string
}

// stream is a stream of calls without pauses.
type stream struct {
	step  atomic.Int64
	calls chan call
}

// startCalls repeats a call until the test ends.
func startCalls(t *testing.T, do func() (status int, answer string)) *stream {
	t.Helper()
	c := &stream{calls: make(chan call)}
	var running sync.WaitGroup
	for caller := range callers {
		running.Go(func() {
			for t.Context().Err() == nil { // ended before the cleanups
				step := c.step.Load()
				status, answer := do()
				select {
				case c.calls <- call{caller, step, status, answer}:
				case <-t.Context().Done():
				}
			}
		})
	}
	t.Cleanup(running.Wait)
	return c
}

// expect waits until each caller has finished three calls that began after expect. It fails the
// test if a call that ends meanwhile has another status, even one that began before.
func (c *stream) expect(t *testing.T, what string, status int) {
	t.Helper()
	step := c.step.Add(1)
	var ended [callers]int
	for wanting := callers; wanting > 0; {
		got := <-c.calls
		if got.status != status {
			t.Errorf("%s: a call was answered with %d, %s, want %d", what, got.status, got.answer, status)
		}
		if got.step == step {
			if ended[got.caller]++; ended[got.caller] == 3 {
				wanting--
			}
		}
	}
}

// settle waits until each caller has finished a call that began after settle, whatever the answers.
func (c *stream) settle() {
	step := c.step.Add(1)
	var ended [callers]bool
	for ended != [callers]bool{true, true, true} {
		if got := <-c.calls; got.step == step {
			ended[got.caller] = true
		}
	}
}

// TestRotation follows the steps of the documentation with requests in flight all the time.
func TestRotation(t *testing.T) {
	t.Parallel()
	p := startPortal(t, []string{"DemoX"}, "old")
	s, m := sendertest.New(t), published(t, "course-v1:edX+DemoX+2023", schedule{})
	var current atomic.Pointer[rule.Rule]
	current.Store(ruleFor(t, p.endpoint(), given, rule.SigningSecret{Secret: "old"}))
	calls := startCalls(t, func() (int, string) {
		r := current.Load()
		d := plan.Deliveries(m, []*rule.Rule{r})[0]
		a := s.Send(t.Context(), r, &d, 1)
		return a.Status, string(a.Response)
	})
	calls.expect(t, "before", 200)
	p.knows(t, "new", "old")
	calls.expect(t, "the portal knows both", 200)
	current.Store(ruleFor(t, p.endpoint(), given,
		rule.SigningSecret{Secret: "new"}, rule.SigningSecret{Secret: "old", Until: time.Now().Add(24 * time.Hour)}))
	calls.expect(t, "the rule has the new one", 200)
	p.knows(t, "new")
	calls.expect(t, "the portal knows the new one", 200)

	// In another order calls are refused, which shows that the expectations above can fail.
	p.knows(t, "newer")
	calls.settle()
	calls.expect(t, "the portal knows another one", 401)
}
