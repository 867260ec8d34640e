package delivery

import (
	"fmt"
	"strings"
	"time"
)

// LaneDue is when a lane has work in the store.
type LaneDue struct {
	Lane Lane
	// DueAt is when the lane's first row is due or its lease expires, by the database's clock.
	DueAt time.Time
	Wait  time.Duration // until DueAt; 0 or less if it has passed
}

// Rejected is a row that can never be inserted.
type Rejected struct {
	Index  int // in the slice that was to be inserted
	ID     ID
	Column string
	// Size and Limit are in bytes for the body, else in characters; both 0 if the server refused
	// the row.
	Size, Limit int
}

// RejectedError reports the rows that could not be stored; the others were.
type RejectedError struct{ Rows []Rejected }

// Error implements error.
func (e *RejectedError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d deliveries do not fit their columns:", len(e.Rows))
	for i, row := range e.Rows {
		if i == 3 {
			b.WriteString(" …")
			break
		}
		fmt.Fprintf(&b, " %s (%s: %d, limit %d)", row.ID, row.Column, row.Size, row.Limit)
	}
	return b.String()
}
