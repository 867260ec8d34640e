package expression

import (
	"cmp"
	_ "embed"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/itchyny/gojq"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/suggest"
)

// linear are the functions of gojq that need no stand-in: their results depend on nothing but what
// they are given, and each of their steps takes time and memory in proportion to the top level of its
// input. Those that gojq defines in jq are made of such steps only.
const linear = `
abs acos acosh all any arrays ascii_downcase ascii_upcase asin asinh atan atan2 atanh booleans cbrt
ceil combinations copysign cos cosh drem empty endswith erf erfc error exp exp10 exp2 expm1
fabs fdim finites first floor fma fmax fmin fmod frexp from_entries fromdate fromdateiso8601 gamma
gmtime has hypot implode in infinite isempty isfinite isinfinite isnan isnormal iterables j0 j1 keys
last ldexp length lgamma limit log log10 log1p log2 logb ltrim ltrimstr map mktime modf nan nearbyint
nextafter nexttoward normals not nulls numbers objects path paths pick pow range recurse remainder
repeat reverse rint round rtrim rtrimstr scalars scalb scalbln select significand sin sinh skip sqrt
startswith strings tan tanh tgamma to_entries toboolean todate todateiso8601 tostream trim trimstr
trunc truncate_stream type until utf8bytelength values while with_entries y0 y1`

// refused are the names that have a reason of their own for not being allowed. Some are jq's and
// unknown to gojq: their users shall read why, not only that.
var refused = map[string]string{
	"env": environment, "$ENV": environment, "getenv": environment,
	"input": inputs, "inputs": inputs, "input_filename": inputs, "input_line_number": inputs,
	"debug": logs, "stderr": logs, "input_debug": logs,
	"get_search_list": files, "modulemeta": files,
	"$__prog_args":  "reads the arguments of the process",
	"$__loc__":      "depends on where the expression stands",
	"fromstream":    "can make an array of any size in one step",
	"halt":          "ends the process in jq",
	"halt_error":    "ends the process in jq; write error(…)",
	"now":           "depends on when it runs; the time of the event is $event.time",
	"localtime":     "depends on the zone of the process; write gmtime",
	"strflocaltime": "depends on the zone of the process; write strftime",
	"builtins":      "gives another order each time",
}

const (
	environment = "reads the environment of the process"
	inputs      = "reads further inputs, and an event has none"
	logs        = "writes to the log of the process"
	files       = "reads files"
)

//go:embed prelude.jq
var preludeText string

// formats are the functions behind @name, where that is not format.
var formats = map[string]string{
	"@text": "tostring", "@json": "tojson", "@html": "_tohtml", "@uri": "_touri", "@urid": "_tourid",
	"@csv": "_tocsv", "@tsv": "_totsv", "@sh": "_tosh", "@base64": "_tobase64", "@base64d": "_tobase64d",
}

// operators are what the operators of jq become. _L and _R are the operands; _add, _subtract, _multiply
// and _modify are what gojq makes of the operators. A |= that deletes is done in two steps, since gojq
// writes into what it deletes from, also where others share that.
var operators = map[gojq.Operator]string{
	gojq.OpAdd: "_add(_L; _R) | _made",
	gojq.OpSub: "_terms(_L; _R) as [$__l, $__r] | _subtract($__l; $__r)",
	gojq.OpMul: "_factors(_L; _R) as [$__l, $__r] | _multiply($__l; $__r) | _made",
	gojq.OpDiv: "_dividend(_L; _R) as [$__l, $__r] | _divide($__l; $__r)",
	gojq.OpEq:  "_compare(_L; _R; [0])", gojq.OpNe: "_compare(_L; _R; [-1, 1])",
	gojq.OpLt: "_compare(_L; _R; [-1])", gojq.OpLe: "_compare(_L; _R; [-1, 0])",
	gojq.OpGt: "_compare(_L; _R; [1])", gojq.OpGe: "_compare(_L; _R; [0, 1])",
	gojq.OpUpdateAdd: "_R as $__r | _modify(_L; . + $__r)",
	gojq.OpUpdateSub: "_R as $__r | _modify(_L; . - $__r)",
	gojq.OpUpdateMul: "_R as $__r | _modify(_L; . * $__r)",
	gojq.OpUpdateDiv: "_R as $__r | _modify(_L; . / $__r)",
	gojq.OpModify: `_update as $__u |
		_modify(_gojq_getpath(_gojq_path(_L) | _updating($__u)); _R, _gone($__u)) | _swept($__u)`,
}

// library holds the definitions of prelude.jq, which are bounded like those of expressions.
type library struct {
	defs  []*gojq.FuncDef
	needs []map[string]bool // names that each of them uses
	names map[string]bool   // that expressions may use, those of linear included
}

var prelude = sync.OnceValue(func() *library {
	l := &library{defs: parse(preludeText + ".").FuncDefs, names: make(map[string]bool)}
	for _, name := range strings.Fields(linear) {
		l.names[name] = true
	}
	for _, def := range l.defs {
		used, _ := bound(def)
		l.needs = append(l.needs, used)
		l.names[def.Name] = true
	}
	return l
})

// define returns the definitions that the used names need.
func (l *library) define(used map[string]bool) []*gojq.FuncDef {
	var defs []*gojq.FuncDef
	for i, def := range slices.Backward(l.defs) {
		if used[def.Name] || used[strings.TrimPrefix(def.Name, "_gojq_")] {
			maps.Copy(used, l.needs[i])
			defs = append(defs, def)
		}
	}
	slices.Reverse(defs)
	return defs
}

// prepare refuses what is not allowed, and bounds the rest.
func prepare(query *gojq.Query) error {
	if err := check(query); err != nil {
		return err
	}
	used, err := bound(query)
	query.FuncDefs = append(prelude().define(used), query.FuncDefs...)
	return err
}

// check returns an error where the query uses what is not allowed.
func check(query *gojq.Query) (err error) {
	refuse := func(format string, args ...any) {
		if err == nil {
			err = fmt.Errorf(format, args...)
		}
	}
	defined := make(map[string]bool)
	use := func(name string, args int) {
		switch {
		case refused[name] != "":
			refuse("%s is not allowed: it %s", name, refused[name])
		case strings.HasPrefix(name, "$__"), strings.HasPrefix(name, "_"):
			refuse("%s is not allowed: it belongs to what jq is made of", name)
		case name[0] != '$' && !prelude().names[name] && !defined[name]:
			near := suggest.Nearest(name, slices.Collect(maps.Keys(prelude().names)))
			if near != "" {
				near = ": did you mean " + near + "?"
			}
			refuse("the expression does not compile: function not defined: %s/%d%s", name, args, near)
		}
	}
	walk(query, func(node any) {
		if def, ok := node.(*gojq.FuncDef); ok {
			for _, name := range append([]string{def.Name}, def.Args...) {
				name = strings.TrimPrefix(name, "$")
				if defined[name] = true; name[0] == '_' {
					refuse("a function %s is not allowed: names that begin with _ are jq's own", name)
				}
			}
		}
	})
	walk(query, func(node any) {
		switch node := node.(type) {
		case *gojq.Query:
			if node.Meta != nil || len(node.Imports) > 0 {
				refuse("module, import and include are not allowed: an expression stands alone")
			}
		case *gojq.ObjectKeyVal:
			if strings.HasPrefix(node.Key, "$") { // {$ENV} is {ENV: $ENV}; {env} is {env: .env}
				use(node.Key, 0)
			}
		case *gojq.Func:
			use(node.Name, len(node.Args))
		}
	})
	return err
}

// walk visits every node of the tree, those above before those below. gojq's trees are structs,
// pointers and slices with exported fields only, so that no kind of node can be forgotten.
func walk(tree any, visit func(node any)) {
	var below func(v reflect.Value)
	below = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			if !v.IsNil() {
				visit(v.Interface())
				below(v.Elem())
			}
		case reflect.Slice:
			for i := range v.Len() {
				below(v.Index(i))
			}
		case reflect.Struct:
			for _, field := range v.Fields() {
				below(field)
			}
		default: // names and numbers
		}
	}
	below(reflect.ValueOf(tree))
}

// bound rewrites what jq's syntax can do beyond the bounds of a step: operators, indices, updates
// and texts made of others. It returns the names of the functions that are used then.
func bound(tree any) (used map[string]bool, err error) {
	used = make(map[string]bool)
	done := make(map[*gojq.String]bool)
	walk(tree, func(node any) {
		switch node := node.(type) {
		case *gojq.Query:
			if template, ok := operators[node.Op]; ok {
				made := fill(template, node.Left, node.Right)
				made.FuncDefs = node.FuncDefs
				*node = *made
			}
		case *gojq.PatternObject:
			if node.KeyQuery != nil {
				node.KeyQuery = fill("_L | _at", node.KeyQuery, nil)
			}
		case *gojq.Index:
			if e := boundIndex(node); err == nil {
				err = e
			}
		case *gojq.Func:
			used[node.Name] = true
		case *gojq.Term:
			if node.Type == gojq.TermTypeFormat {
				used[cmp.Or(formats[node.Format], "format")] = true
				if node.Str != nil { // @csv "a\(X)" is "a\(X | @csv)"
					for i, q := range node.Str.Queries {
						if q.Term.Str == nil {
							node.Str.Queries[i] = fill("(_L | "+node.Format+")", q, nil)
						}
					}
					node.Type = gojq.TermTypeString
				}
			}
		case *gojq.String:
			if len(node.Queries) > 0 && !done[node] {
				used["tostring"] = true
				whole := &gojq.String{Queries: node.Queries}
				done[whole] = true
				made := fill("(_L | _made)", &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeString, Str: whole}}, nil)
				made.Term.Str = new(gojq.String) // gojq takes it for a text then, and does not make it one
				node.Queries = []*gojq.Query{made}
			}
		}
	})
	return used, err
}

// boundIndex bounds the E of .[E]. A constant is checked here and now: gojq does better with those.
func boundIndex(x *gojq.Index) error {
	if x.IsSlice || x.Start == nil {
		return nil
	}
	if t := x.Start.Term; t != nil && len(t.SuffixList) == 0 {
		switch {
		case t.Type == gojq.TermTypeNumber:
			n, _ := strconv.ParseFloat(t.Number, 64)
			return checkIndex(n)
		case t.Type == gojq.TermTypeString && t.Str.Queries == nil:
			return nil
		}
	}
	x.Start = fill("_L | _at", x.Start, nil)
	return nil
}

// fill returns the template with left for _L and right for _R.
func fill(template string, left, right *gojq.Query) *gojq.Query {
	var at []*gojq.Term
	q := parse(template)
	walk(q, func(node any) {
		if t, ok := node.(*gojq.Term); ok && t.Type == gojq.TermTypeFunc && (t.Func.Name == "_L" || t.Func.Name == "_R") {
			at = append(at, t)
		}
	})
	for _, t := range at {
		t.Type, t.Query = gojq.TermTypeQuery, left
		if t.Func.Name == "_R" {
			t.Query = right
		}
		t.Func = nil
	}
	return q
}

// parse is for texts of our own.
func parse(text string) *gojq.Query {
	query, err := gojq.Parse(text)
	if err != nil {
		panic(fmt.Errorf("%s: %w", text, err))
	}
	return query
}
