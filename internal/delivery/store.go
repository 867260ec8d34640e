package delivery

import (
	"fmt"
	"strings"
	"time"
)

// LaneDue says when a lane has work in the store.
type LaneDue struct {
	Lane Lane
	// DueAt is when the lane's first row is visible, by the database's clock: a pending row's next try or the end of a lease.
	DueAt time.Time
	// Wait is the time until then; 0 or less: now.
	Wait time.Duration
}

// Rejected is a row that no try can insert.
type Rejected struct {
	Index  int // in the slice that was to be inserted
	ID     ID
	Column string
	// Size and Limit are in bytes for the body, in characters else; both 0 where the server itself refused the row.
	Size, Limit int
}

// RejectedError says that all rows were stored but these.
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
