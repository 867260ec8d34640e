package delivery

import "time"

// KindState is no queue: a LaneRecord of this kind counts the rows of the state whose number is its RuleID.
const KindState = 0

// ReasonFailing is why a rule is paused whose endpoint took nothing for long. No row has it.
const ReasonFailing Reason = "failing"

// LaneRecord is what replicas share about a lane. Its durations are counted back from the moment of reading, by the database's
// clock, so that they can be compared with durations of this process whatever either clock says.
type LaneRecord struct {
	Lane Lane
	// Failing tells whether the lane is marked: no replica has seen its endpoint take a delivery for FailingFor.
	Failing    bool
	FailingFor time.Duration
	// PauseReason is why the dispatcher itself paused the rule, ReasonNone where it did not or somebody has resumed it.
	PauseReason Reason

	// Rows and Bytes are what waited, pending and leased, when it was measured; bytes are those of bodies as stored.
	Rows  int
	Bytes int64
	// DueFor is how long the first of the rows has been due; below 0 it is due later. 0 where there are no rows.
	DueFor time.Duration
	// Measured tells whether Rows and Bytes ever were, and MeasuredFor how long ago: their measuring began then.
	Measured    bool
	MeasuredFor time.Duration
}
