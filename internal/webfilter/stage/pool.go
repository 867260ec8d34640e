package stage

import (
	"container/list"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// pool is the places of one event type, and who is in line for one. While somebody is in line all places are in use. It is guarded by
// Stage.mu.
type pool struct {
	busy   int       // places in use
	rows   list.List // turns of claimed rows: they go first, because their leases run
	events list.List // turns of events in memory
	// claimed are the rows in line or with their filters.
	claimed int
	// wanted is set where less room was found than a claim would have taken.
	wanted bool
}

// room is how many more rows may be claimed. While events in memory are in line rows get a quarter of the places, so that neither waits
// for the end of the other.
func (p *pool) room(places int) int {
	if p.events.Len() > 0 {
		return quarter(places) - p.claimed
	}
	return places - p.busy - p.rows.Len()
}

func quarter(places int) int { return max(places/4, 1) }

// turn is somebody who needs a place. It is guarded by Stage.mu.
type turn struct {
	eventType string
	claim     *claim // nil for an event in memory
	do        func() // with the place
	// element is set while the turn is in line, begun while it has a place.
	element *list.Element
	begun   bool
}

func (t *turn) line(p *pool) *list.List {
	if t.claim != nil {
		return &p.rows
	}
	return &p.events
}

// join gives a turn a place, or puts it in line. It is called with mu held.
func (s *Stage) join(t *turn) {
	p := s.pools[t.eventType]
	if p == nil {
		p = &pool{}
		s.pools[t.eventType] = p
	}
	if t.claim != nil {
		p.claimed++
	}
	if p.busy >= s.Places {
		t.element = t.line(p).PushBack(t)
		return
	}
	s.begin(p, t)
}

// begin is called with mu held.
func (s *Stage) begin(p *pool, t *turn) {
	t.begun = s.work(func() {
		t.do()
		s.leave(t)
	})
	if t.begun {
		p.busy++
	}
}

// quit takes a turn out of the line, and tells whether it was in it. It is called with mu held.
func (s *Stage) quit(t *turn) bool {
	if t.element == nil {
		return false
	}
	p := s.pools[t.eventType]
	t.line(p).Remove(t.element)
	t.element = nil
	if t.claim != nil {
		p.claimed--
	}
	return true
}

// leave gives a turn's place to the next in line.
func (s *Stage) leave(t *turn) {
	s.mu.Lock()
	p := s.pools[t.eventType]
	p.busy--
	t.begun = false
	if t.claim != nil {
		p.claimed--
	}
	next := p.rows.Front()
	if next == nil {
		next = p.events.Front()
	}
	if next != nil {
		n := next.Value.(*turn)
		n.line(p).Remove(next)
		n.element = nil
		s.begin(p, n)
	}
	wake := p.wanted && p.room(s.Places) >= (quarter(s.Places)+1)/2
	if wake {
		p.wanted = false
	}
	if p.busy == 0 && p.rows.Len()+p.events.Len() == 0 {
		delete(s.pools, t.eventType)
	}
	s.mu.Unlock()
	if wake {
		s.Wake()
	}
}

// maxRoom is how many rows are claimed at a time, at most.
const maxRoom = 32

// Room implements the claimer's view of a lane, for events: how many rows may be claimed now. A lane whose filter waits for its secrets has
// none, nor has one whose events find a rule at its park limit; after that time, one row at a time shows whether it still is. The rows of a
// filter that is gone may be of any type.
func (s *Stage) Room(lane delivery.Lane) (room int, lease time.Duration) {
	lease = delivery.Lease(s.Deadline)
	eventType := s.Chains.TypeOf(lane.RuleID)
	if eventType != "" {
		if _, held := s.Chains.Chain(eventType); held {
			return 0, lease
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, lease
	}
	room = s.Places - s.claimed[lane.RuleID] // a lane may have rows of other types than its filter is for by now
	if p := s.pools[eventType]; p != nil {
		room = min(room, p.room(s.Places))
		p.wanted = p.wanted || room < maxRoom
	}
	if until, rests := s.resting[lane.RuleID]; rests {
		if time.Now().Before(until) {
			return 0, lease
		}
		room = min(room, 1-s.claimed[lane.RuleID])
	}
	return max(0, min(room, maxRoom)), lease
}
