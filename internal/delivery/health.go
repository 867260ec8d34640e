package delivery

import "time"

// Sign is what an attempt says of the endpoint at this moment, whatever becomes of the delivery. The breaker of a lane goes by it.
type Sign uint8

// The signs.
const (
	SignNone  Sign = iota // nothing: no request was made, none was allowed, or it was given up
	SignWorks             // it answers, be it that it refuses this delivery or asks for time
	SignFails             // it does not answer, or answers that it cannot at the moment
)

// Sign tells what the attempt says of the endpoint. A request that could not be made, or that the egress guard refused, is no fault of
// the endpoint and costs next to nothing: a breaker would only hide it. An endpoint that says until when it wants to be left alone
// has the closed lane, and needs no breaker.
func (a *Attempt) Sign() Sign {
	switch a.Class {
	case ClassCancelled, ClassRequest, ClassEgress, ClassExpression, ClassFiltered:
		return SignNone
	case "":
	default:
		return SignFails
	}
	switch {
	case a.PutOff() > 0:
		return SignWorks
	case a.Status >= 500, a.Status == 408, a.Status == 425, a.Status == 429, a.Status == 0:
		return SignFails
	}
	return SignWorks
}

// unbuiltRest is how long after it a failed expression no longer counts with the next.
const unbuiltRest = time.Hour

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
	// Unbuilt counts the attempts that ended with the class expression since the last that did not. After unbuiltRest without one it begins
	// anew: what a filter leaves out makes no attempt, and so is not seen here.
	Unbuilt     int
	lastUnbuilt time.Time
}

// Note adds an attempt that ended at now. Whatever is not a delivery taken is a failure here, an endpoint that asks for time or that the
// egress guard refuses included: what counts is that its rule gets nothing delivered. An attempt given up by this process says nothing.
func (h *LaneHealth) Note(a *Attempt, now time.Time) {
	switch a.Class {
	case ClassExpression: // says nothing of the endpoint
		if now.Sub(h.lastUnbuilt) > unbuiltRest {
			h.Unbuilt = 0
		}
		h.Unbuilt++
		h.lastUnbuilt = now
		return
	case ClassFiltered:
		h.Unbuilt = 0
		return
	case ClassCancelled:
	default:
		h.Unbuilt = 0
	}
	switch {
	case a.OK():
		h.LastTaken = now
		if !h.FailingSince.IsZero() {
			h.FailingSince, h.LastFailure = time.Time{}, time.Time{}
		}
		h.Gone = 0
	case a.Class == ClassCancelled:
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
	return !h.LastTaken.IsZero() || !h.LastFailure.IsZero() || h.Unbuilt > 0
}
