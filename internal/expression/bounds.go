package expression

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"time"

	"github.com/itchyny/gojq"
)

// Bounds of a run. The usual filter takes 30 steps of gojq, the usual transform 100; fewSteps take
// some 30 µs. A run that has made no more when its time is over has waited for a processor, and
// gets patience times as long: else one in 100,000 such runs fails where processors are busy.
const (
	fewSteps = 300
	patience = 10
	lookEach = 8 // steps: looking at the clock costs as much as one
)

// ErrTooLong is wrapped by the errors of runs that took too long.
var ErrTooLong = fmt.Errorf("it ran longer than %s", MaxTime)

// budget is the context of one run, in one goroutine. It counts steps: gojq calls Done before each.
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

// Err returns ErrTooLong, or why the caller has given up.
func (b *budget) Err() error { return b.err }

// over returns ErrTooLong once the run has used up its time. It is asked at the end of a run, too:
// one that was late because of a single step must not count as good, or its rule is never paused.
func (b *budget) over() error {
	if took := time.Since(b.begin); took > patience*MaxTime || took > MaxTime && b.steps > fewSteps {
		return ErrTooLong
	}
	return nil
}

// Bounds of one step. Within them a step takes some 100 ms and some hundred megabytes at most.
const (
	maxWeight = 1 << 18         // values that a step prints, compares, sorts or walks; see weigh
	textGrain = 8               // bytes of text that weigh as much as a value
	maxText   = textGrain << 18 // bytes of a text that a step makes
	maxPairs  = 1 << 21         // of values that are compared each with each
	maxNested = 10_000          // lists in lists: walking them takes stack
	maxDigits = 1 << 14         // of a number that is made of text
	maxBits   = 1 << 16         // of a product of integers

	tooDeep = math.MinInt // what weigh returns for a value that is nested too deep
)

var errTooHeavy = fmt.Errorf("a value is too large for one step, which takes up to %d values or %d bytes of text, a number or time "+
	"format of %d bytes, and compares up to %d pairs: of long lists, write $wanted - $list == []", maxWeight, maxText, maxDigits, maxPairs)

// weigh returns what is left of limit when v is taken off: 1 for each value and each grain bytes of
// text. A value that shares its parts, such as [., .] done thirty times, weighs what it prints as.
func weigh(v any, limit, grain, levels int) (left int) {
	if left = limit - 1; levels < 0 {
		return tooDeep
	}
	switch v := v.(type) {
	case string:
		left -= len(v) / grain
	case json.Number:
		if left -= len(v) / grain; len(v) > maxDigits {
			return -1
		}
	case *big.Int:
		left -= v.BitLen() / (8 * grain)
	case []any:
		for i := 0; i < len(v) && left >= 0; i++ {
			left = weigh(v[i], left, grain, levels-1)
		}
	case map[string]any:
		for key, item := range v {
			if left = weigh(item, left-len(key)/grain, grain, levels-1); left < 0 {
				break
			}
		}
	}
	return left
}

func lighter(v any, limit int) bool { return weigh(v, limit, textGrain, maxNested) >= 0 }

// functions returns the functions in Go that one program may use. Checks return their input.
func functions() (all []gojq.CompilerOption) {
	function := func(name string, f func(v any, args []any) any) {
		all = append(all, gojq.WithFunction(name, 0, 3, f))
	}
	for name, within := range map[string]func(v any, args []any) bool{
		"_made": made, "_paired": paired,
		"_measured":   func(v any, args []any) bool { limit, ok := args[0].(int); return ok && lighter(v, limit) },
		"_comparable": func(v any, args []any) bool { return canCompare(v, args[0]) },
	} {
		function(name, func(v any, args []any) any {
			if !within(v, args) {
				return errTooHeavy
			}
			return v
		})
	}
	function("_fail", func(_ any, args []any) any { return errors.New(args[0].(string)) })
	// The bits of a key are the orders for which the operator holds: less, equal and greater.
	for holds, name := range map[int]string{1: "_lt", 2: "_eq", 3: "_le", 4: "_gt", 5: "_ne", 6: "_ge"} {
		function(name, func(_ any, args []any) any {
			if !canCompare(args[0], args[1]) {
				return errTooHeavy
			}
			return holds>>(1+gojq.Compare(args[0], args[1]))&1 == 1
		})
	}
	// NaN is equal to nothing, itself included: wherever sorting puts it, it is never found.
	function("_difference", func(v any, args []any) any {
		unwanted := slices.SortedFunc(slices.Values(args[0].([]any)), gojq.Compare)
		return slices.DeleteFunc(slices.Clone(v.([]any)), func(item any) bool {
			_, found := slices.BinarySearchFunc(unwanted, item, gojq.Compare)
			return found
		})
	})
	function("_copied", func(v any, _ []any) any { return copied(v) })
	function("_find_all", new(patterns).findAll)
	return all
}

// made checks what a step has made of what was within its bounds.
func made(v any, _ []any) bool {
	switch v := v.(type) {
	case string:
		return len(v) <= maxText
	case *big.Int:
		return v.BitLen() <= maxBits
	case []any:
		return len(v) <= maxWeight
	}
	return true
}

// paired checks what takes all of v with all of args[0].
func paired(v any, args []any) bool {
	l, r := weigh(v, maxWeight, textGrain, maxNested), weigh(args[0], maxWeight, textGrain, maxNested)
	return min(l, r) >= 0 && (maxWeight-l)*(maxWeight-r) <= maxPairs
}

// canCompare: no comparison goes deeper than the lighter side. Nor does this, for
// `until(. == []; .[1:])` compares a long list with an empty one at each step.
func canCompare(l, r any) bool {
	for limit := 1 << 6; limit <= maxWeight; limit <<= 3 {
		if lighter(l, limit) || lighter(r, limit) {
			return true
		}
	}
	return false
}

// copied returns a copy that shares nothing with v: gojq writes into all of what it deletes from.
func copied(v any) any {
	switch v := v.(type) {
	case []any:
		list := slices.Clone(v)
		for i, item := range list {
			list[i] = copied(item)
		}
		return list
	case map[string]any:
		object := make(map[string]any, len(v))
		for key, item := range v {
			object[key] = copied(item)
		}
		return object
	}
	return v
}
