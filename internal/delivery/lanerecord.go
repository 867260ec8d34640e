package delivery

import "time"

// ReasonFailing is why a rule is paused whose endpoint took nothing for long. No row has it.
const ReasonFailing Reason = "failing"

// LaneRecords is what replicas share about lanes and about the queue as a whole. All its durations
// are counted back from the moment of reading, by the database's clock, so that they can be compared
// with durations of this process whatever either clock says.
type LaneRecords struct {
	Lanes []LaneRecord // in the order of their keys
	// DeadRows is how many rows were dead when the queue was last measured.
	DeadRows int
	// Measured reports whether it ever was, and MeasuredFor how long ago: measuring began then.
	Measured    bool
	MeasuredFor time.Duration
}

// LaneRecord is what replicas share about a lane.
type LaneRecord struct {
	Lane Lane
	// Failing reports whether the lane is marked: no replica has seen its endpoint take a delivery for
	// FailingFor.
	Failing    bool
	FailingFor time.Duration
	// PauseReason is why the dispatcher itself paused the rule, ReasonNone if it did not or somebody
	// has resumed it.
	PauseReason Reason

	// Rows and Bytes are what waited, pending and leased, when it was measured; bytes are those of
	// bodies as stored.
	Rows  int
	Bytes int64
	// DueFor is how long the first of the rows has been due, negative if it is due later, 0 if there
	// are no rows.
	DueFor time.Duration
}
