package expression

import (
	"encoding/json"
	"fmt"
	"math/big"
	"math/bits"

	"github.com/itchyny/gojq"
)

// Bounds of one step. What is within them takes some 100 ms and some ten megabytes at most.
const (
	maxWeight = 1 << 20 // of what is printed, compared or walked as a whole; see weigh
	maxWork   = 1 << 22 // comparisons, or pairs that may have to be compared
	maxItems  = 1 << 20 // of a list or an object that is made of others
	maxText   = 4 << 20 // bytes of a text that is made of others
	maxNested = 10_000  // lists in lists: what walks them needs stack for each
	maxDigits = 1 << 14 // of a number that is made of text
	maxBits   = 1 << 16 // of a product
	maxOrder  = 1 << 20 // of a Bessel function
)

// bound has the definitions that stand in for functions of gojq.
type bound struct {
	names []string // any of them brings in all of the text
	text  string
}

// same is a function without arguments that is gojq's own behind a check of its input.
func same(check string, names ...string) []bound {
	all := make([]bound, len(names))
	for i, name := range names {
		all[i] = bound{[]string{name}, fmt.Sprintf("def _gojq_%[1]s: %[1]s; def %[1]s: %[2]s | _gojq_%[1]s;", name, check)}
	}
	return all
}

// bounds are the functions of gojq that are one step each and take more than time in proportion to the values they are given, or make
// more of them. n and m are the lengths of the two sides, W is the weight of all they hold; a value that shares its parts, such as
// [., .] done thirty times, weighs what it prints as.
//
//	takes or makes                      functions                                  bound
//	n·m                                 list - list, -=                            sorted and searched: W·log m up to maxSort
//	n·m, nested lists more              contains, inside                           maxWork comparisons
//	n·m                                 index, rindex, indices                     n + m (Knuth, Morris and Pratt); maxWeight
//	n·m                                 .[LIST], getpath, as {(LIST): $x}          m up to maxKey
//	n·m                                 delpaths, del of slices                    paths with slices · W up to maxWork
//	n·m                                 transpose                                  the matrix up to maxItems
//	n·log² n, keys may be shared        sort, unique, group_by, …_by               W·log n up to maxSort
//	a sum of shared parts               join, add, +, +=                           the result up to maxText, maxItems
//	a factor                            text * n                                   the result up to MaxOutput
//	W of shared parts                   ==, !=, <, <=, >, >=, IN, min, max,        the lighter side up to maxWeight
//	                                    bsearch, object * object
//	W of shared parts                   tojson, tostring, "\(…)", @formats,        maxWeight
//	                                    INDEX, flatten, error that nobody catches
//	digits², and what is made of them   tonumber, fromjson, number * number        maxDigits, maxBits
//	an index                            .[N] = …, setpath                          MaxIndex
//	an order                            jn, yn                                     maxOrder
//	text · pattern, matches · text      test, match, gsub, …                       see match.go
//
// All others take time in proportion to what they are given and make a constant factor of it at most (@html six times as much text, split
// and explode 50 bytes of memory for each character), or take constant time; keys and to_entries sort names. So does what follows a slice
// that |= takes out of a list (`.[N:] |= empty`), as often as there are such slices: it takes intent.
func bounds() []bound {
	all := []bound{
		{[]string{"format"}, `def _gojq_format($f): format($f); def format($f): _measured | _gojq_format($f);`},
		{[]string{"flatten"}, `def _gojq_flatten: flatten; def _gojq_flatten($d): flatten($d);
			def flatten: _measured | _gojq_flatten; def flatten($d): _measured | _gojq_flatten($d);`},
		{[]string{"min_by"}, `def min_by(f): _min_by(map([f]) | _measured);`},
		{[]string{"max_by"}, `def max_by(f): _max_by(map([f]) | _measured);`},
		{[]string{"sort_by"}, `def sort_by(f): _sort_by(map([f]) | _sortable);`},
		{[]string{"group_by"}, `def group_by(f): _group_by(map([f]) | _sortable);`},
		{[]string{"unique_by"}, `def unique_by(f): _unique_by(map([f]) | _sortable);`},
		{[]string{"bsearch"}, `def _gojq_bsearch($x): bsearch($x); def bsearch($x): _gojq_bsearch($x | _measured);`},
		{[]string{"join"}, `def _gojq_join($s): join($s); def join($s): _joinable($s) | _gojq_join($s);`},
		{[]string{"add"}, `def _gojq_add: add; def add: _joinable(null) | _gojq_add; def add(f): [f] | add;`},
		{[]string{"contains"}, `def contains($x): _contains(.; $x);`},
		{[]string{"inside"}, `def inside($x): _contains($x; .);`},
		{[]string{"index"}, `def index($x): _index_of(.; $x);`},
		{[]string{"rindex"}, `def rindex($x): _rindex_of(.; $x);`},
		{[]string{"indices"}, `def indices($x): _indices_of(.; $x);`},
		{[]string{"delpaths", "del"}, `def _gojq_delpaths($p): delpaths($p); def delpaths($p): _deletable($p) | _gojq_delpaths($p);
			def del(f): delpaths([path(f)]);`},
		{[]string{"jn"}, `def _gojq_jn($n; $x): jn($n; $x); def jn($n; $x): _gojq_jn($n | _order; $x);`},
		{[]string{"yn"}, `def _gojq_yn($n; $x): yn($n; $x); def yn($n; $x): _gojq_yn($n | _order; $x);`},
		{[]string{"IN"}, `def IN(s): any(_is_equal(s; .); .); def IN(src; s): any(_is_equal(src; s); .);`},
		{[]string{"INDEX"}, `def INDEX(stream; f): reduce stream as $row ({}; .[$row | f | _measured | tostring] = $row);
			def INDEX(f): INDEX(.[]; f);`},
		{[]string{"JOIN"}, `def JOIN($idx; f): [.[] | [., $idx[_bounded_index(f)]]];
			def JOIN($idx; stream; f): stream | [., $idx[_bounded_index(f)]];
			def JOIN($idx; stream; f; g): stream | [., $idx[_bounded_index(f)]] | g;`},
	}
	all = append(all, same("_measured", "min", "max", "tojson", "tostring")...)
	all = append(all, same("_measured", "_tohtml", "_touri", "_tourid", "_tocsv", "_totsv", "_tosh", "_tobase64", "_tobase64d")...)
	all = append(all, same("_sortable", "sort", "unique")...)
	all = append(all, same("_transposable", "transpose")...)
	return append(all, same("_numeric", "tonumber", "fromjson")...)
}

// formats are the functions behind @name, where that is not `format`.
var formats = map[string]string{
	"@text": "tostring", "@json": "tojson", "@html": "_tohtml", "@uri": "_touri", "@urid": "_tourid", "@csv": "_tocsv", "@tsv": "_totsv",
	"@sh": "_tosh", "@base64": "_tobase64", "@base64d": "_tobase64d",
}

// checks are functions that return their input, or an error where the step that follows would be too large.
func checks() []gojq.CompilerOption {
	return []gojq.CompilerOption{
		gojq.WithFunction("_measured", 0, 0, func(v any, _ []any) any { return within(v, weigh(v)) }),
		gojq.WithFunction("_sortable", 0, 0, func(v any, _ []any) any { return checkSort(v) }),
		gojq.WithFunction("_transposable", 0, 0, func(v any, _ []any) any { return checkTranspose(v) }),
		gojq.WithFunction("_numeric", 0, 0, func(v any, _ []any) any { return checkDigits(v) }),
		gojq.WithFunction("_order", 0, 0, func(v any, _ []any) any { return checkOrder(v) }),
		gojq.WithFunction("_joinable", 1, 1, func(v any, args []any) any { return checkJoin(v, args[0]) }),
		gojq.WithFunction("_deletable", 1, 1, func(v any, args []any) any { return checkDelete(v, args[0]) }),
	}
}

// weigh returns how many values v holds, itself included, and one more for every four bytes of text: what printing it makes. It is
// maxWeight+1 where that is more than maxWeight, or nested too deep.
func weigh(v any) int { return count(v, 4) }

// effort is weigh for comparisons, which go over text faster.
func effort(v any) int { return count(v, effortGrain) }

// effortGrain is how many bytes of text take as long to compare as a value does.
const effortGrain = 64

func count(v any, grain int) int {
	s := scale{left: maxWeight, grain: grain}
	if !s.put(v, 0) {
		return maxWeight + 1
	}
	return maxWeight - s.left
}

type scale struct{ left, grain int }

// put tells whether something is left.
func (s *scale) put(v any, depth int) bool {
	s.left--
	switch v := v.(type) {
	case string:
		s.left -= len(v) / s.grain
	case json.Number:
		s.left -= len(v) / s.grain
	case *big.Int:
		s.left -= v.BitLen() / (8 * s.grain)
	case []any:
		for _, item := range v {
			if depth > maxNested || !s.put(item, depth+1) {
				return false
			}
		}
	case map[string]any:
		for key, item := range v {
			s.left -= len(key) / s.grain
			if depth > maxNested || !s.put(item, depth+1) {
				return false
			}
		}
	}
	return s.left >= 0
}

// within returns v, or an error where its weight is too large.
func within(v any, weight int) any {
	if weight > maxWeight {
		return fmt.Errorf("a value is too large for one step: it holds more than %d values, or %d bytes of text", maxWeight, 4*maxWeight)
	}
	return v
}

// maxSort is for the effort of comparing a list with itself times the digits of its length in binary: 200,000 numbers.
const maxSort = 1 << 22

// checkSort: every comparison costs what the lighter side does, and each item is compared about as often as its list has such digits.
func checkSort(v any) any {
	if list, ok := v.([]any); ok && unsortable(effort(v), len(list)) {
		return fmt.Errorf("a list of %d values is too large to be sorted or searched", len(list))
	}
	return v
}

// unsortable tells whether it takes too long to sort n values, or to find them among n, that are so much effort together.
func unsortable(effort, n int) bool { return effort > maxWeight || effort*bits.Len(uint(n)) > maxSort }

func checkTranspose(v any) any {
	rows, _ := v.([]any)
	longest := 0
	for _, row := range rows {
		if row, ok := row.([]any); ok {
			longest = max(longest, len(row))
		}
	}
	if len(rows)*longest > maxItems {
		return fmt.Errorf("%d lists of up to %d values make more than %d when they are transposed", len(rows), longest, maxItems)
	}
	return v
}

// checkDigits returns v, or an error where it is a text with a number of more than maxDigits outside of quotes.
func checkDigits(v any) any {
	text, _ := v.(string)
	digits, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			quoted, digits = !quoted, 0
		case quoted && c == '\\':
			i++
		case quoted || c < '0' || c > '9':
			digits = 0
		default:
			if digits++; digits > maxDigits {
				return fmt.Errorf("a number has more than %d digits", maxDigits)
			}
		}
	}
	return v
}

func checkOrder(v any) any {
	if n, ok := gojq.ToFloat64(v); ok && (n > maxOrder || n < -maxOrder) {
		return fmt.Errorf("the order %.0f of a Bessel function is above %d", n, maxOrder)
	}
	return v
}

// checkJoin bounds what the items of v are together, with the separator between them.
func checkJoin(v, separator any) any {
	between, _ := separator.(string)
	text, items := 0, 0
	count := func(item any) {
		text += len(between)
		switch item := item.(type) {
		case string:
			text += len(item)
		case []any:
			items += len(item)
		case map[string]any:
			items += len(item)
		}
	}
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			count(item)
		}
	case map[string]any:
		for _, item := range v {
			count(item)
		}
	}
	if err := checkMade(text-len(between), items); err != nil {
		return err
	}
	return v
}

// checkMade returns an error where a text of so many bytes, or a list or object of so many items, is too large to be made of others.
func checkMade(text, items int) error {
	switch {
	case text > maxText:
		return fmt.Errorf("a text of %d bytes is made of others: more than %d", text, maxText)
	case items > maxItems:
		return fmt.Errorf("a list or object of %d values is made of others: more than %d", items, maxItems)
	}
	return nil
}

// checkDelete: a path goes over the whole list where it has a slice.
func checkDelete(v, paths any) any {
	weight := weigh(v)
	if err, ok := within(v, max(weight, weigh(paths))).(error); ok {
		return err
	}
	slices := 0
	list, _ := paths.([]any)
	for _, path := range list {
		steps, _ := path.([]any)
		for _, step := range steps {
			if _, ok := step.(map[string]any); ok {
				slices++
			}
		}
	}
	if slices > 1 && slices*weight > maxWork {
		return fmt.Errorf("%d slices are too many to be deleted in one step", slices)
	}
	return v
}
