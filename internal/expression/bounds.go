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

var errTooHeavy = fmt.Errorf("a value is too large for one step, which takes up to %d values or %d bytes of text, "+
	"a number or time format of %d bytes, and compares up to %d pairs: of long lists, write $wanted - $list == []",
	maxWeight, maxText, maxDigits, maxPairs)

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

// measured returns the error of a value that weighs more than the limit, or else than maxWeight.
func measured(v any, limit ...any) error {
	n, _ := append(limit, maxWeight)[0].(int)
	return heavy(weigh(v, n, textGrain, maxNested) < 0)
}

func heavy(is bool) error {
	if is {
		return errTooHeavy
	}
	return nil
}

// functions are the functions in Go that rewritten expressions and prelude.jq use, for all programs.
var functions = sync.OnceValue(func() (all []gojq.CompilerOption) {
	function := func(name string, f func(v any, args []any) any) {
		all = append(all, gojq.WithFunction(name, 0, 2, f))
	}
	for name, check := range map[string]func(v any, args ...any) error{ // which return their input, or an error
		"_measured": measured, "_made": made, "_paired": paired, "_comparable": comparable, "_at": indexable,
		"_fail": func(_ any, text ...any) error { return errors.New(text[0].(string)) },
	} {
		function(name, func(v any, args []any) any { return cmp.Or[any](check(v, args...), v) })
	}
	// The bits of a key are the orders for which the operator holds: less, equal and greater.
	for holds, name := range map[int]string{1: "_lt", 2: "_eq", 3: "_le", 4: "_gt", 5: "_ne", 6: "_ge"} {
		function(name, func(_ any, args []any) any {
			if err := comparable(args[0], args[1]); err != nil {
				return err
			}
			return holds>>(1+gojq.Compare(args[0], args[1]))&1 == 1
		})
	}
	function("_difference", func(v any, args []any) any { return difference(v, args[0]) })
	function("_copied", func(v any, _ []any) any { return copied(v) })
	return all
})

// made checks what a step has made of what was within its bounds.
func made(v any, _ ...any) error {
	switch v := v.(type) {
	case string:
		return heavy(len(v) > maxText)
	case *big.Int:
		return heavy(v.BitLen() > maxBits)
	case []any:
		return heavy(len(v) > maxWeight)
	}
	return nil
}

// paired is for what takes all of v with all of x.
func paired(v any, x ...any) error {
	l := maxWeight - weigh(v, maxWeight, textGrain, maxNested)
	r := maxWeight - weigh(x[0], maxWeight, textGrain, maxNested)
	return heavy(max(l, r) > maxWeight || l*r > maxPairs)
}

// comparable: no comparison goes deeper than the lighter side. Nor does this, for
// `until(. == []; .[1:])` compares a long list with an empty one at each step.
func comparable(l any, r ...any) error {
	for limit := 1 << 6; limit <= maxWeight; limit <<= 3 {
		if measured(l, limit) == nil || measured(r[0], limit) == nil {
			return nil
		}
	}
	return errTooHeavy
}

// indexable is for the E of .[E], and for steps of a path.
func indexable(v any, _ ...any) error {
	if list, ok := v.([]any); ok && measured(v, maxKey) != nil {
		return fmt.Errorf("a list of %d values is too long for an index: write indices(…)", len(list))
	}
	if n, ok := gojq.ToFloat64(v); ok && n > MaxIndex {
		return fmt.Errorf("the array index %.0f is above %d: for a key, write it as text", n, MaxIndex)
	}
	return nil
}

// difference returns l - r of two lists, and null of other values. NaN is equal to nothing, itself
// included: sorting may put items that hold one in any order among themselves, and none is ever found.
func difference(l, r any) any {
	list, isList := l.([]any)
	unwanted, areLists := r.([]any)
	if !isList || !areLists {
		return nil
	}
	if err := measured([]any{l, r}); err != nil {
		return err
	}
	sorted := slices.SortedFunc(slices.Values(unwanted), gojq.Compare)
	return slices.DeleteFunc(slices.Clone(list), func(v any) bool {
		_, found := slices.BinarySearchFunc(sorted, v, gojq.Compare)
		return found
	})
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
