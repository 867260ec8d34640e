package expression

import (
	"cmp"
	"context"
	"fmt"
	"time"
)

// fewSteps of gojq take some 30 µs, and make nothing large. The usual filter takes 30 steps, the
// usual transform 100. A run that has made no more than a few when its time is over has waited for
// a processor, and gets patience times as long: otherwise, where processors are busy or throttled,
// one in 100,000 runs of microseconds would fail.
const (
	fewSteps = 300
	patience = 10
	lookEach = 8 // steps: looking at the clock costs as much as one
)

// ErrTooLong is wrapped by the errors of runs that took too long.
var ErrTooLong = fmt.Errorf("it ran longer than %s", MaxTime)

// budget is the context of one run. gojq asks it before each step whether it is done, which is how
// steps are counted. It is for one goroutine.
type budget struct {
	context.Context // the caller's

	begin time.Time
	steps int
	err   error // why the run is to end
}

// Done returns a closed channel once the run is to end.
func (b *budget) Done() <-chan struct{} {
	if b.steps++; b.steps%lookEach == 0 && b.err == nil {
		b.err = cmp.Or(b.over(), b.Context.Err())
	}
	if b.err == nil {
		return nil
	}
	done := make(chan struct{})
	close(done)
	return done
}

// over returns ErrTooLong once the run has used up its time. It is asked at the end of a run, too:
// one that was late because of a single step must not count as good, or its rule is never paused.
func (b *budget) over() error {
	if took := time.Since(b.begin); took > patience*MaxTime || took > MaxTime && b.steps > fewSteps {
		return ErrTooLong
	}
	return nil
}

// Err returns ErrTooLong, or why the caller has given up.
func (b *budget) Err() error { return b.err }
