package delivery

import "time"

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
}
