package expression

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"

	"github.com/itchyny/gojq"
)

// Bounds of one step. Within them a step takes some 100 ms and some hundred megabytes at most.
const (
	maxWeight = 1 << 18         // values that a step prints, compares, sorts or walks; see scale
	textGrain = 8               // bytes of text that weigh as much as a value
	maxText   = textGrain << 18 // bytes of a text that a step makes
	maxPairs  = 1 << 21         // of values that are compared each with each
	maxNested = 10_000          // lists in lists, and steps of a path: walking them takes stack
	maxDigits = 1 << 14         // of a number that is made of text
	maxBits   = 1 << 16         // of a product of integers
	maxKey    = 16              // weight of a list that is an index: it is searched for
)

// scale weighs values: one for each value and each grain bytes of text. A value that shares its
// parts, such as [., .] done thirty times, weighs what it prints as.
type scale struct {
	left, grain, deepest int
	deep                 bool // nothing is left because it is nested deeper than deepest
}

// put reports whether something is left, and stops as soon as nothing is.
func (s *scale) put(v any, depth int) bool {
	s.left--
	if depth > s.deepest {
		s.left, s.deep = -1, true
	}
	switch v := v.(type) {
	case string:
		s.left -= len(v) / s.grain
	case json.Number:
		if s.left -= len(v) / s.grain; len(v) > maxDigits {
			s.left = -1
		}
	case *big.Int:
		s.left -= v.BitLen() / (8 * s.grain)
	case []any:
		for i := 0; i < len(v) && s.left >= 0; i++ {
			s.put(v[i], depth+1)
		}
	case map[string]any:
		for key, item := range v {
			if s.left -= len(key) / s.grain; !s.put(item, depth+1) {
				break
			}
		}
	}
	return s.left >= 0
}

// weigh returns the weight of v, or limit+1 where it is more than the limit.
func weigh(v any, limit int) int {
	s := scale{left: limit, grain: textGrain, deepest: maxNested}
	s.put(v, 0)
	return limit - max(s.left, -1)
}

func lighter(v any, limit int) bool { return weigh(v, limit) <= limit }

var errTooHeavy = fmt.Errorf("a value is too large for one step, which takes up to %d values or %d bytes of text, "+
	"a number or time format of %d bytes, and compares up to %d pairs: of long lists, write $wanted - $list == []",
	maxWeight, maxText, maxDigits, maxPairs)

// costs are checks: functions that return their input, or errTooHeavy where a step with it and x
// would cost more than maxWeight.
var costs = map[string]func(v, x any) int{
	"_measured": func(v, _ any) int { return weigh(v, maxWeight) },
	"_joinable": func(v, x any) int { return weigh(v, maxWeight) + length(v)*weigh(x, maxWeight) }, // the separator comes again with each
	"_paired": func(v, x any) int {
		return max(weigh(v, maxWeight), weigh(x, maxWeight), weigh(v, maxWeight)*weigh(x, maxWeight)/(maxPairs/maxWeight))
	},
	"_transposable": func(v, _ any) int {
		longest := 0
		rows, _ := v.([]any)
		for _, row := range rows {
			longest = max(longest, length(row))
		}
		return len(rows) * longest
	},
	"_short": func(v, _ any) int { // for the text of a number or a time
		text, _ := v.(string)
		return len(text) * (maxWeight / maxDigits)
	},
	"_pieces": func(v, x any) int { // for splitting text at x
		text, isText := v.(string)
		if separator, ok := x.(string); isText && ok {
			return strings.Count(text, separator) // of "", one for each character and one more
		}
		return 0
	},
	"_made": func(v, _ any) int { // what a step has made of what was within its bounds
		switch v := v.(type) {
		case string:
			return len(v) / textGrain
		case *big.Int:
			return v.BitLen() * (maxWeight / maxBits)
		}
		return length(v)
	},
}

// update collects the paths that an update with |= deletes.
type update struct {
	at    any
	paths []any
}

// functions are the functions in Go that rewritten expressions and prelude.jq use.
func functions() []gojq.CompilerOption {
	all := []gojq.CompilerOption{gojq.WithFunction("_find_all", 3, 3, new(patterns).findAll)}
	function := func(name string, args int, f func(v any, args []any) any) {
		all = append(all, gojq.WithFunction(name, args, args, f))
	}
	for name, cost := range costs {
		all = append(all, gojq.WithFunction(name, 0, 1, func(v any, args []any) any {
			var x any
			if len(args) > 0 {
				x = args[0]
			}
			if cost(v, x) > maxWeight {
				return errTooHeavy
			}
			return v
		}))
	}
	for name, check := range map[string]func(v any) error{"_at": checkIndex, "_path": checkPath, "_zoneless": checkFormat} {
		function(name, 0, func(v any, _ []any) any { return cmp.Or[any](check(v), v) })
	}
	function("_compare", 3, func(_ any, args []any) any { // whether the order is one of those of the third
		if err := checkCompare(args[0], args[1]); err != nil {
			return err
		}
		return slices.Contains(args[2].([]any), any(gojq.Compare(args[0], args[1])))
	})
	for name, f := range map[string]func(l, r any) any{"_terms": terms, "_factors": factors, "_dividend": dividend} {
		function(name, 2, func(_ any, args []any) any { return f(args[0], args[1]) })
	}
	function("_tostring", 0, func(v any, _ []any) any { return text(v) })
	function("_deletable", 1, func(v any, args []any) any { return deletable(v, args[0]) })
	function("_update", 0, func(any, []any) any { return new(update) })
	function("_updating", 1, func(path any, args []any) any {
		args[0].(*update).at = path
		return path
	})
	function("_gone", 1, func(v any, args []any) any {
		u := args[0].(*update)
		u.paths = append(u.paths, u.at)
		return v
	})
	function("_gone_of", 1, func(_ any, args []any) any {
		if u := args[0].(*update); len(u.paths) > 0 {
			return u.paths
		}
		return nil
	})
	return all
}

func length(v any) int {
	switch v := v.(type) {
	case []any:
		return len(v)
	case map[string]any:
		return len(v)
	}
	return 0
}

// checkCompare: no comparison goes deeper than the lighter side. Nor does this, for
// `until(. == []; .[1:])` compares a long list with an empty one at each step.
func checkCompare(l, r any) error {
	for limit := 1 << 6; limit <= maxWeight; limit <<= 3 {
		if lighter(l, limit) || lighter(r, limit) {
			return nil
		}
	}
	return errTooHeavy
}

// checkIndex is for the E of .[E]: a list there is searched for.
func checkIndex(v any) error {
	if list, ok := v.([]any); ok && len(list) > 1 && !lighter(v, maxKey) {
		return fmt.Errorf("a list of %d values is too long for an index: write indices(…)", len(list))
	}
	if n, ok := gojq.ToFloat64(v); ok && n > MaxIndex {
		return fmt.Errorf("the array index %.0f is above %d: for a key, write it as text", n, MaxIndex)
	}
	return nil
}

func checkPath(v any) error {
	path, _ := v.([]any)
	if len(path) > maxNested {
		return fmt.Errorf("a path has %d steps: more than %d", len(path), maxNested)
	}
	for _, step := range path {
		if err := checkIndex(step); err != nil {
			return err
		}
	}
	return nil
}

// zoneName finds %Z in a format; flags may stand between the two characters.
var zoneName = regexp.MustCompile(`(^|[^%])(%%)*%[-_^#:EO0-9]*Z`)

func checkFormat(v any) error {
	if format, _ := v.(string); zoneName.MatchString(format) {
		return errors.New("strptime with %Z depends on the zone of the process: write %z")
	}
	return nil
}

// text is tostring, for what is within bounds.
func text(v any) any {
	if _, ok := v.(string); ok {
		return v
	}
	if !lighter(v, maxWeight) {
		return errTooHeavy
	}
	made, err := gojq.Marshal(v)
	switch {
	case err != nil:
		return err
	case len(made) > maxText:
		return errTooHeavy
	}
	return string(made)
}

// terms returns [l, r], or of two lists [l - r, []]. NaN is equal to nothing, itself included:
// sorting may put items that hold one in any order among themselves, and none of them is ever found.
func terms(l, r any) any {
	list, isList := l.([]any)
	unwanted, ok := r.([]any)
	if !isList || !ok {
		return []any{l, r}
	}
	if weigh(l, maxWeight)+weigh(r, maxWeight) > maxWeight {
		return errTooHeavy
	}
	sorted := slices.SortedFunc(slices.Values(unwanted), gojq.Compare)
	left := make([]any, 0, len(list))
	for _, v := range list {
		if _, found := slices.BinarySearchFunc(sorted, v, gojq.Compare); !found {
			left = append(left, v)
		}
	}
	return []any{left, []any{}}
}

// factors returns [l, r], or an error where the product would be too large.
func factors(l, r any) any {
	text, isText := l.(string)
	times, isNumber := gojq.ToFloat64(r)
	if !isText || !isNumber {
		text, isText = r.(string)
		times, isNumber = gojq.ToFloat64(l)
	}
	if isText && isNumber && times*float64(len(text)) > MaxOutput {
		return fmt.Errorf("a text of %d bytes is repeated %.0f times, to more than %d bytes: "+
			"is it meant to be a number?",
			len(text), times, MaxOutput)
	}
	if _, ok := l.(map[string]any); ok {
		if err := checkCompare(l, r); err != nil {
			return err
		}
	}
	return []any{l, r}
}

// dividend returns [l, r], or an error where l is a text that r splits into too many.
func dividend(l, r any) any {
	if costs["_pieces"](l, r) > maxWeight {
		return errTooHeavy
	}
	return []any{l, r}
}

// deletable returns a copy of v that shares nothing with it: gojq writes into all of what it deletes
// from, also where that belongs to other runs. A path with a slice goes over the whole list.
func deletable(v, paths any) any {
	weight, slices := weigh(v, maxWeight), 0
	if list, ok := paths.([]any); ok {
		for _, path := range list {
			if err := checkPath(path); err != nil {
				return err
			}
			steps, _ := path.([]any)
			for _, step := range steps {
				slices += min(1, length(step))
			}
		}
	}
	switch {
	case weight > maxWeight:
		return errTooHeavy
	case slices > 1 && slices*weight > maxPairs:
		return fmt.Errorf("%d slices are too many to be deleted in one step", slices)
	}
	return copied(v)
}

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
