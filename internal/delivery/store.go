package delivery

import (
	"fmt"
	"time"
)

// LaneDue is when a lane has work in the store.
type LaneDue struct {
	Lane Lane
	Wait time.Duration // until the lane's first row is due or its lease expires; 0 or less if it has passed
}

// Rejected is a row that can never be inserted.
type Rejected struct {
	Index       int // in the slice that was to be inserted
	ID          ID
	Column      string
	Size, Limit int // in bytes for the body, else in characters; both 0 if the server refused it
}

// RejectedError reports the rows that could not be stored; the others were.
type RejectedError struct{ Rows []Rejected }

// Error implements error.
func (e *RejectedError) Error() string {
	text := fmt.Sprintf("%d deliveries do not fit their columns:", len(e.Rows))
	for i, row := range e.Rows {
		if i == 3 {
			return text + " …"
		}
		text += fmt.Sprintf(" %s (%s: %d, limit %d)", row.ID, row.Column, row.Size, row.Limit)
	}
	return text
}

// ReasonFailing is why a rule is paused whose endpoint accepted nothing for long. No row has it.
const ReasonFailing Reason = "failing"

// LaneRecords is what replicas share about lanes and the queue as a whole. Durations are ages at
// the moment of reading, by the database's clock, so that differences between clocks do not matter.
type LaneRecords struct {
	Lanes       []LaneRecord  // ordered by key
	DeadRows    int           // at the last measurement
	Measured    bool          // the queue was ever measured
	MeasuredFor time.Duration // how long ago the last measurement began
}

// LaneRecord is what replicas share about a lane.
type LaneRecord struct {
	Lane       Lane
	Failing    bool // marked: no replica has delivered to its endpoint for FailingFor
	FailingFor time.Duration
	// PauseReason is why the dispatcher paused the rule; ReasonNone if it did not, or the rule was
	// resumed.
	PauseReason Reason

	Rows   int           // pending and leased, at the last measurement
	Bytes  int64         // the stored size of their bodies
	DueFor time.Duration // how long the oldest due row has been due; negative if it is due later, 0 without rows
}
