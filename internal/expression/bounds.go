package expression

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"sync"

	"github.com/itchyny/gojq"
)

// Bounds of one step. Within them a step takes some 100 ms and some hundred megabytes at most.
const (
	maxWeight = 1 << 18         // values that a step prints, compares, sorts or walks; see weigh
	textGrain = 8               // bytes of text that weigh as much as a value
	maxText   = textGrain << 18 // bytes of a text that a step makes
	maxPairs  = 1 << 21         // of values that are compared each with each
	maxNested = 10_000          // lists in lists: walking them takes stack
	maxDigits = 1 << 14         // of a number that is made of text
	maxBits   = 1 << 16         // of a product of integers
	maxKey    = 64              // weight of a list that is an index: it is searched for
)

var errTooHeavy = fmt.Errorf("a value is too large for one step, which takes up to %d values or "+
	"%d bytes of text, a number or time format of %d bytes, and compares up to %d pairs: "+
	"of long lists, write $wanted - $list == []", maxWeight, maxText, maxDigits, maxPairs)

// tooDeep is what weigh returns for a value that is nested too deep.
const tooDeep = math.MinInt

// weigh returns what is left of limit when v is taken off: 1 for each value and each grain bytes of
// text. A value that shares its parts, such as [., .] done thirty times, weighs what it prints as.
// It stops as soon as less than nothing is left.
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

func unless(ok bool) error {
	if ok {
		return nil
	}
	return errTooHeavy
}

// functions are the functions in Go that rewritten expressions and prelude.jq use, for all
// programs.
var functions = sync.OnceValue(func() (all []gojq.CompilerOption) {
	function := func(name string, f func(v any, args []any) any) {
		all = append(all, gojq.WithFunction(name, 0, 2, f))
	}
	// Checks return their input, or an error.
	for name, check := range map[string]func(v any, args []any) error{
		"_measured": measured, "_made": made, "_paired": paired, "_at": indexable,
		"_comparable": func(v any, args []any) error { return unless(canCompare(v, args[0])) },
		"_fail":       func(_ any, args []any) error { return errors.New(args[0].(string)) },
	} {
		function(name, func(v any, args []any) any { return cmp.Or[any](check(v, args), v) })
	}
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
	return all
})

// measured checks the weight of what a step takes, which is maxWeight at most, or else args[0].
func measured(v any, args []any) error {
	if len(args) == 0 {
		return unless(lighter(v, maxWeight))
	}
	limit, _ := args[0].(int)
	return unless(lighter(v, limit))
}

// made checks what a step has made of what was within its bounds.
func made(v any, _ []any) error {
	switch v := v.(type) {
	case string:
		return unless(len(v) <= maxText)
	case *big.Int:
		return unless(v.BitLen() <= maxBits)
	case []any:
		return unless(len(v) <= maxWeight)
	}
	return nil
}

// paired checks what takes all of v with all of args[0].
func paired(v any, args []any) error {
	l := maxWeight - weigh(v, maxWeight, textGrain, maxNested)
	r := maxWeight - weigh(args[0], maxWeight, textGrain, maxNested)
	return unless(max(l, r) <= maxWeight && l*r <= maxPairs)
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

// indexable is for the E of .[E], and for steps of a path.
func indexable(v any, _ []any) error {
	if list, ok := v.([]any); ok && !lighter(v, maxKey) {
		return fmt.Errorf("a list of %d values is too long for an index: write indices(…)", len(list))
	}
	if n, ok := gojq.ToFloat64(v); ok && n > MaxIndex {
		return fmt.Errorf("the array index %.0f is above %d: for a key, write it as text", n, MaxIndex)
	}
	return nil
}

// copied returns a copy that shares nothing with v: gojq writes into all of what it deletes from,
// also where that belongs to other runs.
func copied(v any) any {
	switch v := v.(type) {
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = copied(v[i])
		}
		return list
	case map[string]any:
		object := make(map[string]any, len(v))
		for key := range v {
			object[key] = copied(v[key])
		}
		return object
	}
	return v
}
