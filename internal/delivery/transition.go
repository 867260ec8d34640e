package delivery

import "time"

// The transitions that the package comment draws, one function each. Everything that makes or changes a row goes through
// one of them, except for the end of a rule and of a row's time, which are single statements over many rows.

// HandOff (memory → leased) makes the row of a first try that is still under way: the request goes on under token, and the
// row becomes visible to others when lease has passed without a result.
func HandOff(d *Delivery, token Token, lease time.Duration, reason Reason) Insert {
	return Insert{Delivery: *d, State: Leased, Delay: lease, Token: token, Claims: 1, Reason: reason}
}

// Enqueue (memory → pending, dead) makes the row of a first try that failed.
func Enqueue(d *Delivery, v Decision, status int) Insert {
	in := Insert{
		Delivery: *d, State: v.State, Delay: v.Delay, Reason: v.Reason, LastStatus: status,
		Attempts: v.Attempts, Claims: v.Attempts, // a first try counts as its own claim
	}
	return in
}

// Queue (memory → pending) makes the row of a delivery that has not been tried: it is due after delay.
func Queue(d *Delivery, delay time.Duration, reason Reason) Insert {
	return Insert{Delivery: *d, State: Pending, Delay: delay, Reason: reason}
}

// DeadLetter (memory → dead) makes the row of a delivery that can be kept only without its body.
func DeadLetter(d *Delivery, attempts, status int) Insert {
	in := Insert{Delivery: *d, State: Dead, Attempts: attempts, Claims: attempts, Reason: ReasonTooLarge, LastStatus: status}
	in.Body = nil
	return in
}

// Overflow (memory → dead) makes the row of a delivery that finds as many rows of its rule waiting as may. It is kept without its body:
// what the limit is for is room.
func Overflow(d *Delivery, attempts, status int) Insert {
	in := DeadLetter(d, attempts, status)
	in.Reason = ReasonQueueLimit
	return in
}

// Settle (leased → delivered, pending, dead, halted) is the result of a lease that was sent.
func Settle(r *Row, v Decision, status int) Update {
	u := Update{
		ID: r.ID, Token: r.Token, State: v.State, Delay: v.Delay, Attempts: v.Attempts, Claims: r.Claims,
		Reason: v.Reason, LastStatus: status,
	}
	if !v.Counted {
		u.Claims = max(r.Claims-1, 0) // else an endpoint that asks for patience would look like a crash loop
	}
	return u
}

// Return (leased → pending) gives a lease back that was not used; the row is due again after delay.
func Return(r *Row, delay time.Duration) Update {
	return Update{
		ID: r.ID, Token: r.Token, State: Pending, Delay: delay, Attempts: r.Attempts, Claims: max(r.Claims-1, 0),
		Reason: r.Reason, LastStatus: r.LastStatus,
	}
}

// Abort (leased → dead) ends a row whose claimers die before they can write a result. It is right only where CrashLoops says so.
func Abort(r *Row) Update {
	return Update{
		ID: r.ID, Token: r.Token, State: Dead, Attempts: r.Attempts, Claims: r.Claims,
		Reason: ReasonCrashLoop, LastStatus: r.LastStatus,
	}
}

// CrashLoops tells whether a row that was just claimed has been claimed five times more often than attempted.
func (r *Row) CrashLoops() bool { return r.Claims-r.Attempts > crashLoopClaims }

// Rewind is what a replay makes of a row, whatever stood there.
type Rewind struct {
	State State
	// Delay, counted by the database from the replay, is the time until the row is due.
	Delay    time.Duration
	Attempts int
	Claims   int
	Reason   Reason
}

// Replay (dead → pending) sends a dead row again, from the first delay of the schedule on and under the same ID, so that a receiver that
// took it after all can drop it. The last status stays until there is a new one. It is right only for a row that is dead when it is
// written, and has a body: one that is too_large was kept without.
func Replay() Rewind { return Rewind{State: Pending} }
