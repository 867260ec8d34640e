package queue_test

import (
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/queue"
)

// Without being given back the rows would be sent by nobody until their lease has run out.
func TestClaimWhoseAnswerIsLostIsGivenBack(t *testing.T) {
	t.Parallel()
	withClaimer(t, func(t *testing.T, s *table, l *lanes, _ *queue.Wakeup, _ settled) {
		l.mu.Lock()
		l.room[lane1] = 100
		l.mu.Unlock()
		s.mu.Lock()
		s.lose = 1
		s.mu.Unlock()
		s.add(lane1, 5, 0)
		pass(20 * time.Second)
		if n := l.received(lane1); n != 5 {
			t.Errorf("%d rows received, want 5", n)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if n := len(s.givenBack); n != 1 {
			t.Errorf("asked %d times for rows to be given back, want once: it had some", n)
		}
	})
}

// One that was never carried out is asked for no longer than a server could still be at it.
func TestClaimThatWasNotMadeIsForgotten(t *testing.T) {
	t.Parallel()
	withClaimer(t, func(t *testing.T, s *table, l *lanes, _ *queue.Wakeup, _ settled) {
		l.mu.Lock()
		l.room[lane1] = 100
		l.mu.Unlock()
		s.mu.Lock()
		s.lose = 1
		s.mu.Unlock()
		s.add(lane1, 1, 0)
		pass(time.Millisecond)
		s.mu.Lock()
		s.leaked = nil
		s.mu.Unlock()
		pass(time.Minute)
		s.mu.Lock()
		defer s.mu.Unlock()
		if n := len(s.givenBack); n < 3 || n > 20 {
			t.Errorf("asked %d times for rows to be given back, want a few times in 5 s", n)
		}
	})
}
