package delivery

import "time"

// The transitions drawn in the package comment, one function each. Every row change goes through
// one of them, except for rule deletion, expiry and replay, which are single statements over many
// rows.

// HandOff (memory → leased) makes the row of a first try that is still running: the request goes on
// under token, and others may claim the row if lease passes without a result.
func HandOff(d *Delivery, token Token, lease time.Duration, reason Reason) Insert {
	return Insert{Delivery: *d, State: Leased, Delay: lease, Token: token, Claims: 1, Reason: reason}
}

// Enqueue (memory → pending, dead) makes the row of a first try that failed.
func Enqueue(d *Delivery, v Decision, status int) Insert {
	return Insert{
		Delivery: *d, State: v.State, Delay: v.Delay, Reason: v.Reason, LastStatus: status,
		Attempts: v.Attempts, Claims: v.Attempts, // a first try counts as its own claim
	}
}

// Queue (memory → pending) makes the row of a delivery that has not been tried, due after delay.
func Queue(d *Delivery, delay time.Duration, reason Reason) Insert {
	return Insert{Delivery: *d, State: Pending, Delay: delay, Reason: reason}
}

// DeadLetter (memory → dead) makes the row of a delivery whose body does not fit, without its body.
func DeadLetter(d *Delivery, attempts, status int) Insert {
	in := Insert{Delivery: *d, State: Dead, Attempts: attempts, Claims: attempts, Reason: ReasonTooLarge, LastStatus: status}
	in.Body = nil
	return in
}

// Overflow (memory → dead) makes the row of a delivery beyond the queue limit, without its body.
func Overflow(d *Delivery, attempts, status int) Insert {
	in := DeadLetter(d, attempts, status)
	in.Reason = ReasonQueueLimit
	return in
}

// Settle (leased → delivered, pending, dead, halted) is the result of an attempt under a lease.
func Settle(r *Row, v Decision, status int) Update {
	u := r.end(v.State, v.Reason)
	u.Delay, u.Attempts, u.LastStatus = v.Delay, v.Attempts, status
	if !v.Counted {
		u.Claims = max(r.Claims-1, 0) // or a deferring endpoint would look like a crash loop
	}
	return u
}

// Return (leased → pending) ends an unused lease; the row is due again after delay.
func Return(r *Row, delay time.Duration) Update {
	u := r.end(Pending, r.Reason)
	u.Delay, u.Claims = delay, max(r.Claims-1, 0)
	return u
}

// Abort (leased → dead) ends a row for which CrashLoops is true.
func Abort(r *Row) Update { return r.end(Dead, ReasonCrashLoop) }

// end ends the lease of a row and leaves its counts as they are.
func (r *Row) end(state State, reason Reason) Update {
	return Update{
		ID: r.ID, Token: r.Token, State: state, Attempts: r.Attempts, Claims: r.Claims, Reason: reason, LastStatus: r.LastStatus,
	}
}

// CrashLoops reports whether a newly claimed row has over five more claims than attempts.
func (r *Row) CrashLoops() bool { return r.Claims-r.Attempts > crashLoopClaims }
