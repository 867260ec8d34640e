package dispatch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

func fedBy(lanes int, at time.Time) *source {
	s := &source{fed: make(map[delivery.Lane]*feed)}
	for i := range lanes {
		key := delivery.Lane{Kind: delivery.KindWebhook, RuleID: int32(i)}
		s.fed[key] = &feed{lane: &lane{key: key}, at: at}
	}
	return s
}

// However many rules a partition feeds, pressure on it looks at ten thousand lanes a second at most.
func TestPressureLooksAtSoManyLanes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ lanes, want int }{{10, 100}, {1000, 100}, {2000, 50}, {10_000, 10}, {30_000, 4}} {
		synctest.Test(t, func(t *testing.T) {
			s := fedBy(tc.lanes, time.Now())
			looks := 0
			for range 100 { // ten seconds
				if got := len(s.lanes(time.Now())); got > 0 {
					looks++
					if got != tc.lanes {
						t.Errorf("%d of %d lanes", got, tc.lanes)
					}
				}
				<-time.After(100 * time.Millisecond)
			}
			if looks != tc.want {
				t.Errorf("%d lanes were looked at %d times in ten seconds, want %d", tc.lanes, looks, tc.want)
			}
		})
	}
}

func TestSourceForgets(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := fedBy(10, now)
	var gone *lane
	for _, f := range s.fed {
		gone = f.lane
	}
	s.prune(now, nil)
	if len(s.fed) != 10 {
		t.Errorf("%d lanes left of 10 that had work a moment ago", len(s.fed))
	}
	s.prune(now, map[*lane]bool{gone: true})
	if len(s.fed) != 9 {
		t.Errorf("%d lanes left, want all but the one that is gone", len(s.fed))
	}
	key := delivery.Lane{Kind: delivery.KindWebhook, RuleID: 3}
	if gone.key == key {
		key.RuleID = 4
	}
	s.lane(nil, key, now.Add(3*time.Second)) // too soon to be noted
	if at := s.fed[key].at; !at.Equal(now) {
		t.Errorf("noted after %v", at.Sub(now))
	}
	s.lane(nil, key, now.Add(10*time.Second))
	late := now.Add(recently + time.Second)
	if got := len(s.lanes(late)); got != 1 {
		t.Errorf("%d lanes had work recently, want 1", got)
	}
	s.prune(late, nil)
	if len(s.fed) != 1 || s.fed[key] == nil {
		t.Errorf("%d lanes left, want the one that had work recently", len(s.fed))
	}
}
