package expression

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"slices"
	"sync"

	"github.com/itchyny/gojq"
)

// operators are the functions that stand in for operators of jq, and for those that update.
var operators = map[gojq.Operator]string{
	gojq.OpAdd: "_sum", gojq.OpUpdateAdd: "_sum", gojq.OpSub: "_difference", gojq.OpUpdateSub: "_difference",
	gojq.OpMul: "_product", gojq.OpUpdateMul: "_product",
	gojq.OpEq: "_is_equal", gojq.OpNe: "_is_unequal", gojq.OpLt: "_is_less", gojq.OpLe: "_is_at_most",
	gojq.OpGt: "_is_greater", gojq.OpGe: "_is_at_least",
}

// native is a step of gojq's own, for what its stand-in leaves to it: it gives the results and the errors of gojq. Its two arguments
// are .[0] and .[1].
type native struct {
	text string
	code func() (*gojq.Code, error)
}

func newNative(text string) *native {
	return &native{text: text, code: sync.OnceValues(func() (*gojq.Code, error) {
		query, err := gojq.Parse(text)
		if err != nil {
			return nil, err
		}
		return gojq.Compile(query)
	})}
}

func (n *native) run(l, r any) any {
	code, err := n.code()
	if err != nil {
		return fmt.Errorf("gojq's %s: %w", n.text, err)
	}
	v, ok := code.Run([]any{l, r}).Next()
	if !ok {
		return fmt.Errorf("gojq's %s has no result", n.text)
	}
	return v
}

// standIns are the functions behind operators and those that search.
func standIns() []gojq.CompilerOption {
	binary := func(name string, f func(l, r any) any) gojq.CompilerOption {
		return gojq.WithFunction(name, 2, 2, func(_ any, args []any) any { return f(args[0], args[1]) })
	}
	comparison := func(name string, f func(order int) bool) gojq.CompilerOption {
		return binary(name, func(l, r any) any {
			if err := checkCompare(l, r); err != nil {
				return err
			}
			return f(gojq.Compare(l, r))
		})
	}
	plus, minus, times := newNative(".[0] + .[1]"), newNative(".[0] - .[1]"), newNative(".[0] * .[1]")
	index, rindex, indices := newNative(".[1] as $x | .[0] | index($x)"), newNative(".[1] as $x | .[0] | rindex($x)"),
		newNative(".[1] as $x | .[0] | indices($x)")
	return []gojq.CompilerOption{
		binary("_sum", func(l, r any) any { return sum(l, r, plus) }),
		binary("_difference", func(l, r any) any { return difference(l, r, minus) }),
		binary("_product", func(l, r any) any { return product(l, r, times) }),
		comparison("_is_equal", func(order int) bool { return order == 0 }),
		comparison("_is_unequal", func(order int) bool { return order != 0 }),
		comparison("_is_less", func(order int) bool { return order < 0 }),
		comparison("_is_at_most", func(order int) bool { return order <= 0 }),
		comparison("_is_greater", func(order int) bool { return order > 0 }),
		comparison("_is_at_least", func(order int) bool { return order >= 0 }),
		binary("_contains", func(l, r any) any { return contains(l, r) }),
		binary("_index_of", func(v, x any) any { return search(v, x, index, first) }),
		binary("_rindex_of", func(v, x any) any { return search(v, x, rindex, last) }),
		binary("_indices_of", func(v, x any) any { return search(v, x, indices, every) }),
	}
}

// checkCompare returns an error where comparing the two may take too long: no comparison goes deeper than the lighter side. Nor does this,
// for `until(. == []; .[1:])` compares a long list with an empty one at each step.
func checkCompare(l, r any) error {
	if scalar(l) || scalar(r) {
		return nil
	}
	for limit := 1 << 4; limit < maxWeight; limit <<= 3 {
		if fits(l, limit) || fits(r, limit) {
			return nil
		}
	}
	if fits(l, maxWeight) {
		return nil
	}
	err, _ := within(r, effort(r)).(error)
	return err
}

// fits tells whether v is no more effort than the limit. It looks at no more of v than that.
func fits(v any, limit int) bool { return (&scale{left: limit, grain: effortGrain}).put(v, 0) }

func scalar(v any) bool {
	switch v.(type) {
	case []any, map[string]any:
		return false
	}
	return true
}

// floats returns both as floats where one is a float and the other a float or an int.
func floats(l, r any) (x, y float64, ok bool) {
	switch l := l.(type) {
	case int:
		y, ok = r.(float64)
		return float64(l), y, ok
	case float64:
		switch r := r.(type) {
		case int:
			return l, float64(r), true
		case float64:
			return l, r, true
		}
	}
	return 0, 0, false
}

func sum(l, r any, own *native) any {
	if x, y, ok := floats(l, r); ok {
		return x + y
	}
	switch x := l.(type) {
	case int:
		if y, ok := r.(int); ok {
			if s := x + y; (s >= x) == (y >= 0) {
				return s
			}
		}
	case string:
		if y, ok := r.(string); ok {
			if err := checkMade(len(x)+len(y), 0); err != nil {
				return err
			}
			return x + y
		}
	case []any:
		if y, ok := r.([]any); ok && len(x) > 0 && len(y) > 0 {
			if err := checkMade(0, len(x)+len(y)); err != nil {
				return err
			}
			return slices.Concat(x, y)
		}
	case map[string]any:
		if y, ok := r.(map[string]any); ok && len(x) > 0 && len(y) > 0 {
			if err := checkMade(0, len(x)+len(y)); err != nil {
				return err
			}
		}
	}
	return own.run(l, r)
}

func difference(l, r any, own *native) any {
	if x, y, ok := floats(l, r); ok {
		return x - y
	}
	switch x := l.(type) {
	case int:
		if y, ok := r.(int); ok {
			if d := x - y; (d <= x) == (y >= 0) {
				return d
			}
		}
	case []any:
		if y, ok := r.([]any); ok {
			return without(x, y)
		}
	}
	return own.run(l, r)
}

// fewPairs is up to how many comparisons a list is searched through: that needs no copy.
const fewPairs = 1 << 12

// without returns the items of list that are not among unwanted. NaN is equal to nothing, itself included: sorting may put items that hold
// one in any order among themselves, and none of them is ever found.
func without(list, unwanted []any) any {
	heavy, other := effort(list), effort(unwanted)
	among := func(v any) bool {
		return slices.ContainsFunc(unwanted, func(w any) bool { return gojq.Compare(v, w) == 0 })
	}
	if min(len(list)*other, len(unwanted)*heavy) > fewPairs {
		if unsortable(heavy+other, len(unwanted)) {
			return fmt.Errorf("lists of %d and %d values are too large to be subtracted", len(list), len(unwanted))
		}
		sorted := slices.SortedFunc(slices.Values(unwanted), gojq.Compare)
		among = func(v any) bool {
			_, found := slices.BinarySearchFunc(sorted, v, gojq.Compare)
			return found
		}
	}
	left := make([]any, 0, len(list))
	for _, v := range list {
		if !among(v) {
			left = append(left, v)
		}
	}
	return left
}

func product(l, r any, own *native) any {
	if x, y, ok := floats(l, r); ok {
		return x * y
	}
	if x, ok := l.(int); ok {
		if y, ok := r.(int); ok {
			if p := x * y; x == 0 || p/x == y && (x != -1 || y != math.MinInt) {
				return p
			}
		}
	}
	if err := checkRepeat(l, r); err != nil {
		return err
	}
	if n, m := bitsOf(l), bitsOf(r); n+m > maxBits {
		return fmt.Errorf("a product of integers of %d and %d bits is above 2 to the power of %d", n, m, maxBits)
	}
	if _, ok := l.(map[string]any); ok {
		if err := checkCompare(l, r); err != nil {
			return err
		}
	}
	return own.run(l, r)
}

// bitsOf returns how many bits an integer has at most, 0 for what is none.
func bitsOf(v any) int {
	switch v := v.(type) {
	case *big.Int:
		return v.BitLen()
	case json.Number:
		return 4 * len(v)
	}
	return 0
}
