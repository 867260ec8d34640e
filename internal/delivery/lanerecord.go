package delivery

import "time"

// ReasonFailing is why a rule is paused whose endpoint accepted nothing for long. No row has it.
const ReasonFailing Reason = "failing"

// LaneRecords is what replicas share about lanes and the queue as a whole. Durations are ages at
// the moment of reading, by the database's clock, so that differences between clocks do not matter.
type LaneRecords struct {
	Lanes []LaneRecord // ordered by key
	// DeadRows is the number of dead rows at the last measurement.
	DeadRows int
	// Measured reports whether the queue was ever measured; MeasuredFor is how long ago that began.
	Measured    bool
	MeasuredFor time.Duration
}

// LaneRecord is what replicas share about a lane.
type LaneRecord struct {
	Lane Lane
	// Failing reports whether the lane is marked: no replica has delivered to its endpoint for
	// FailingFor.
	Failing    bool
	FailingFor time.Duration
	// PauseReason is why the dispatcher paused the rule; ReasonNone if it did not, or the rule was
	// resumed.
	PauseReason Reason

	// Rows and Bytes are the pending and leased rows at the last measurement, and the stored size
	// of their bodies.
	Rows  int
	Bytes int64
	// DueFor is how long the oldest due row has been due; negative if it is due later, 0 without
	// rows.
	DueFor time.Duration
}
