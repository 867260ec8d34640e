package expression

import (
	"fmt"
	"slices"
	"strings"

	"github.com/itchyny/gojq"
)

// contains is gojq's, but for the limit of comparisons.
func contains(l, r any) any {
	s := seeker{left: maxWork}
	found, alike := s.contains(l, r)
	switch {
	case s.left < 0:
		return fmt.Errorf("contains and inside compare more than %d values: for lists of plain values, write $wanted - $list == []", maxWork)
	case !alike:
		return fmt.Errorf("contains(%s) cannot be applied to: %s", gojq.Preview(r), shown(l))
	}
	return found
}

// shown is v as gojq's errors have it.
func shown(v any) string {
	if v == nil {
		return "null"
	}
	return gojq.TypeOf(v) + " (" + gojq.Preview(v) + ")"
}

// seeker counts down the comparisons that are left.
type seeker struct{ left int }

// contains: two that are not alike are an error at the top, and as good as false within lists and objects.
func (s *seeker) contains(l, r any) (found, alike bool) {
	if s.left--; s.left < 0 {
		return false, true
	}
	switch x := l.(type) {
	case string:
		if y, ok := r.(string); ok {
			s.left -= (len(x) + len(y)) / 64
			return strings.Contains(x, y), true
		}
	case []any:
		if y, ok := r.([]any); ok {
			return s.each(x, y), true
		}
	case map[string]any:
		if y, ok := r.(map[string]any); ok {
			return s.fields(x, y), true
		}
	case nil, bool:
		return l == r, l == r
	default: // a number
		if _, ok := gojq.ToFloat64(r); ok {
			return gojq.Compare(l, r) == 0, true
		}
	}
	return false, false
}

func (s *seeker) each(list, wanted []any) bool {
	for _, w := range wanted {
		if !slices.ContainsFunc(list, func(v any) bool {
			found, _ := s.contains(v, w)
			return found || s.left < 0
		}) {
			return false
		}
		if s.left < 0 {
			return false
		}
	}
	return true
}

func (s *seeker) fields(object, wanted map[string]any) bool {
	if len(object) < len(wanted) {
		return false
	}
	for key, w := range wanted {
		v, ok := object[key]
		if !ok {
			return false
		}
		if found, _ := s.contains(v, w); !found || s.left < 0 {
			return false
		}
	}
	return true
}

// What a search returns of the places that it finds.
func first(at []any) any { return at[0] }
func last(at []any) any  { return at[len(at)-1] }
func every(at []any) any { return at }

// search is gojq's index, rindex or indices: where x is in v. In a text it counts characters.
func search(v, x any, own *native, pick func(at []any) any) any {
	var at []any
	switch v := v.(type) {
	case string:
		sought, ok := x.(string)
		if !ok || sought == "" {
			return own.run(v, x)
		}
		at = occurrences([]rune(v), []rune(sought), func(a, b rune) bool { return a == b })
	case []any:
		sought, ok := x.([]any)
		if !ok {
			sought = []any{x}
		}
		if len(sought) == 0 {
			return own.run(v, x)
		}
		if err, ok := within(nil, max(effort(v), effort(sought))).(error); ok {
			return err
		}
		at = occurrences(v, sought, func(a, b any) bool { return gojq.Compare(a, b) == 0 })
	default:
		return own.run(v, x)
	}
	if len(at) == 0 {
		return own.run([]any{}, x) // whatever gojq has for nothing found
	}
	return pick(at)
}

// occurrences returns where sought, which is not empty, begins in list, overlapping ones included (Knuth, Morris and Pratt).
func occurrences[T any](list, sought []T, same func(a, b T) bool) []any {
	back := make([]int, len(sought)) // how long a beginning of sought ends at each of its places
	for i, n := 1, 0; i < len(sought); i++ {
		for n > 0 && !same(sought[i], sought[n]) {
			n = back[n-1]
		}
		if same(sought[i], sought[n]) {
			n++
		}
		back[i] = n
	}
	at := []any{}
	n := 0
	for i, v := range list {
		for n > 0 && (n == len(sought) || !same(v, sought[n])) {
			n = back[n-1]
		}
		if same(v, sought[n]) {
			n++
		}
		if n == len(sought) {
			at = append(at, i-n+1)
		}
	}
	return at
}
