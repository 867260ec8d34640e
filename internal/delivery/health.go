package delivery

import (
	"sync/atomic"
	"time"
)

// Signal is what an attempt says about the endpoint's health, whatever becomes of the delivery.
// Circuit breakers use it.
type Signal uint8

// The signals.
const (
	SignalNone      Signal = iota // no request was made or allowed, or it was given up
	SignalHealthy                 // it answers, even if it refuses this delivery or asks for a delay
	SignalUnhealthy               // no answer, or one that it is unable to take deliveries
)

// Signal returns what the attempt says about the endpoint. An invalid request or a denied address
// is not the endpoint's fault and costs almost nothing. An endpoint that says when to come back
// needs no breaker: its lane is closed until then.
func (a *Attempt) Signal() Signal {
	switch a.Class {
	case ClassCancelled, ClassRequest, ClassEgress, ClassExpression, ClassFiltered:
		return SignalNone
	case "":
	default:
		return SignalUnhealthy
	}
	switch {
	case a.PutOff() > 0:
		return SignalHealthy
	case a.Status >= 500, a.Status == 408, a.Status == 425, a.Status == 429, a.Status == 0:
		return SignalUnhealthy
	}
	return SignalHealthy
}

// Stage is the part of a rule that made a render fail.
type Stage uint8

// The stages.
const (
	StageRule      Stage = iota // its options, or the stored event, cannot be read
	StageFilter                 // it fails
	StageTransform              // it fails, or its output cannot be sent
	stages
)

// Runs is a snapshot of an expression's count of good runs. Two are equal if the expression is the
// same and had no good run in between.
type Runs struct {
	Counter *atomic.Uint64 // the expression's; nil without one
	Good    uint64         // its value
}

// RenderFailure is why no body could be rendered.
type RenderFailure struct {
	Stage   Stage
	Runs    Runs // of the stage's expression
	TooLong bool // the expression was stopped
}

// streak counts failures of a stage without a good run in between.
type streak struct {
	runs    Runs
	n       int
	tooLong int // of these, runs that were stopped
}

// LaneHealth is what this process knows about a lane's endpoint. The zero LaneHealth has no
// failures.
type LaneHealth struct {
	Lane         Lane
	FailingSince time.Time // the first failure since the last success; zero if the last attempt succeeded
	LastFailure  time.Time // zero if FailingSince is
	LastTaken    time.Time // when the endpoint last accepted a delivery from this process; zero for never
	Gone         int       // consecutive 410 answers
	// RenderFailures is the longest current streak of render failures of one stage. A good run of
	// the failing filter or transform ends it, for any event and even if no attempt follows.
	// Successes of the other expression do not reset it.
	RenderFailures int
	Overruns       int // failures of such a streak that were stopped for running too long
	streaks        [stages]streak
}

// NoteRenderFailure records an attempt of ClassExpression, in place of Note. It does not concern
// the endpoint.
func (h *LaneHealth) NoteRenderFailure(u RenderFailure) {
	r := &h.streaks[u.Stage]
	if r.runs != u.Runs {
		*r = streak{runs: u.Runs}
	}
	r.n++
	if u.TooLong {
		r.tooLong++
	}
	h.measure()
}

// Update ends streaks that ended unnoticed: by a good run since the last failure, or because the
// rule has other expressions. filter and transform are the counters of its current ones, nil
// without one.
func (h *LaneHealth) Update(filter, transform *atomic.Uint64) {
	for stage, now := range map[Stage]*atomic.Uint64{StageFilter: filter, StageTransform: transform} {
		if of := h.streaks[stage].runs; of.Counter != now || now != nil && now.Load() != of.Good {
			h.streaks[stage] = streak{}
		}
	}
	h.measure()
}

func (h *LaneHealth) measure() {
	h.RenderFailures, h.Overruns = 0, 0
	for _, r := range h.streaks {
		h.RenderFailures, h.Overruns = max(h.RenderFailures, r.n), max(h.Overruns, r.tooLong)
	}
}

// Note records an attempt that ended at now. Everything except an accepted delivery is a failure,
// including a request for a delay and a denied address: the rule gets nothing delivered. Cancelled
// and filtered attempts say nothing. A render failure counts for StageRule; see NoteRenderFailure.
func (h *LaneHealth) Note(a *Attempt, now time.Time) {
	switch a.Class {
	case ClassCancelled:
		return
	case ClassExpression:
		h.NoteRenderFailure(RenderFailure{Stage: StageRule})
		return
	default: // options and event could be read
		h.streaks[StageRule] = streak{}
		h.measure()
	}
	if a.Class == ClassFiltered {
		return
	}
	if a.OK() {
		h.LastTaken, h.FailingSince, h.LastFailure, h.Gone = now, time.Time{}, time.Time{}, 0
		return
	}
	if h.FailingSince.IsZero() {
		h.FailingSince = now
	}
	h.LastFailure = now
	switch {
	case a.Class != "": // no answer
	case a.Status == 410:
		h.Gone++
	default:
		h.Gone = 0
	}
}

// Tried reports whether any attempt has been recorded.
func (h *LaneHealth) Tried() bool {
	return !h.LastTaken.IsZero() || !h.LastFailure.IsZero() || h.RenderFailures > 0
}
