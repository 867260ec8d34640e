package delivery

import (
	"sync/atomic"
	"time"
)

// Signal is what an attempt says of the endpoint at this moment, whatever becomes of the delivery. The breaker of a lane goes by it.
type Signal uint8

// The signs.
const (
	SignalNone      Signal = iota // nothing: no request was made, none was allowed, or it was given up
	SignalHealthy                 // it answers, be it that it refuses this delivery or asks for time
	SignalUnhealthy               // it does not answer, or answers that it cannot at the moment
)

// Signal tells what the attempt says of the endpoint. A request that could not be made, or that the egress guard refused, is no fault of
// the endpoint and costs next to nothing: a breaker would only hide it. An endpoint that says until when it wants to be left alone
// has the closed lane, and needs no breaker.
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

// Stage is what of a rule failed where no body could be made.
type Stage uint8

// The stages.
const (
	StageRule      Stage = iota // its options, or the event that a row keeps, cannot be read
	StageFilter                 // its filter fails
	StageTransform              // its transform fails, or makes what cannot be sent
	stages
)

// Runs are the good runs of one compiled expression so far. Two Runs are equal if it is the same expression and had no good run in between.
type Runs struct {
	Counter *atomic.Uint64 // the expression's own; nil where there is none
	Good    uint64         // what it was
}

// RenderFailure says what failed where no body could be made.
type RenderFailure struct {
	Stage   Stage
	Runs    Runs // of the expression of the stage
	TooLong bool // the expression was stopped because it ran too long
}

// streak counts failures of one stage with no good run between them.
type streak struct {
	runs    Runs
	n       int
	tooLong int // of them, runs that were stopped
}

// LaneHealth is what one process knows of the endpoint of a lane. The zero LaneHealth knows of no failure.
type LaneHealth struct {
	Lane Lane
	// FailingSince is the first failure after the last delivery that was taken; zero while the last one was taken.
	FailingSince time.Time
	// LastFailure is the newest failure, zero where FailingSince is.
	LastFailure time.Time
	// LastTaken is when the endpoint last took a delivery from this process; zero if it never did.
	LastTaken time.Time
	// Gone counts the answers 410 since the last answer of another kind.
	Gone int
	// RenderFailure is how many attempts in a row ended with the class expression, of the stage that has the most. A row of failures ends with a
	// good run of the filter or transform that failed, for whatever event, and so also where the filter leaves the event out and no attempt
	// is made. The other one's good runs end it not: a filter that works says nothing of the transform behind it.
	RenderFailure int
	// Overruns is how many failures of such a streak are runs that were stopped because they took too
	// long.
	Overruns int
	streaks  [stages]streak
}

// NoteRenderFailure adds an attempt that ended with the class expression, in place of Note. It says nothing of the endpoint.
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

// Update ends rows of failures that nothing was noted of since: those with a good run after the last failure, and those of expressions that
// the rule has no longer. filter and transform are the counters of those that it has now, nil where it has none.
func (h *LaneHealth) Update(filter, transform *atomic.Uint64) {
	for stage, now := range map[Stage]*atomic.Uint64{StageFilter: filter, StageTransform: transform} {
		if of := h.streaks[stage].runs; of.Counter != now || now != nil && now.Load() != of.Good {
			h.streaks[stage] = streak{}
		}
	}
	h.measure()
}

func (h *LaneHealth) measure() {
	h.RenderFailure, h.Overruns = 0, 0
	for _, r := range h.streaks {
		h.RenderFailure, h.Overruns = max(h.RenderFailure, r.n), max(h.Overruns, r.tooLong)
	}
}

// Note adds an attempt that ended at now. Whatever is not a delivery taken is a failure here, an endpoint that asks for time or that the
// egress guard refuses included: what counts is that its rule gets nothing delivered. An attempt given up by this process says nothing, and
// neither does one that the filter leaves out. One that could not be built counts as one of StageRule; NoteRenderFailure is for those of which
// more is known.
func (h *LaneHealth) Note(a *Attempt, now time.Time) {
	switch a.Class {
	case ClassCancelled:
		return
	case ClassExpression:
		h.NoteRenderFailure(RenderFailure{Stage: StageRule})
		return
	default: // what had to be read could be
		h.streaks[StageRule] = streak{}
		h.measure()
	}
	if a.Class == ClassFiltered {
		return
	}
	switch {
	case a.OK():
		h.LastTaken = now
		if !h.FailingSince.IsZero() {
			h.FailingSince, h.LastFailure = time.Time{}, time.Time{}
		}
		h.Gone = 0
	default:
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
}

// Tried tells whether any attempt has been noted.
func (h *LaneHealth) Tried() bool {
	return !h.LastTaken.IsZero() || !h.LastFailure.IsZero() || h.RenderFailure > 0
}
