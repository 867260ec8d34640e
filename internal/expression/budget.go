package expression

import (
	"context"
	"fmt"
	"time"
)

// fewSteps of gojq take some 30 µs, and make nothing large: a text that is doubled again and again has
// some megabytes by then. The usual filter takes 30 steps, the usual transform 100. A run that has made
// no more than a few when its time is over has waited for a processor, and gets patience times as long:
// otherwise, where processors are busy or throttled, one in 100,000 runs of microseconds would fail.
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
	done  chan struct{}
	err   error
}

func newBudget(ctx context.Context) *budget {
	return &budget{Context: ctx, begin: time.Now(), done: make(chan struct{})}
}

// Done returns a channel that is closed when the run is to end.
func (b *budget) Done() <-chan struct{} {
	b.steps++
	if b.steps%lookEach != 0 || b.err != nil {
		return b.done
	}
	if b.err = b.over(); b.err == nil {
		b.err = b.Context.Err()
	}
	if b.err != nil {
		close(b.done)
	}
	return b.done
}

// over returns ErrTooLong once the run has used up its time. It is asked at the end of a run, too: a run
// that was late because of a single step must not count as a good one, or its rule is late for every
// event and never paused.
func (b *budget) over() error {
	took := time.Since(b.begin)
	if took > MaxTime && b.steps > fewSteps || took > patience*MaxTime {
		return ErrTooLong
	}
	return nil
}

// Err returns ErrTooLong, or why the caller has given up, once the channel is closed.
func (b *budget) Err() error { return b.err }
