package expression

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/itchyny/gojq"
)

// refused are the functions and variables that an expression must not use, with what to say of them. Some are jq's and unknown to
// gojq: their users shall read why, not only that.
var refused = map[string]string{
	"env":               "reads the environment of the process",
	"$ENV":              "reads the environment of the process",
	"getenv":            "reads the environment of the process",
	"$__prog_args":      "reads the arguments of the process",
	"$__loc__":          "depends on where the expression stands",
	"input":             "reads further inputs, and an event has none",
	"inputs":            "reads further inputs, and an event has none",
	"input_filename":    "reads further inputs, and an event has none",
	"input_line_number": "reads further inputs, and an event has none",
	"debug":             "writes to the log of the process",
	"stderr":            "writes to the log of the process",
	"input_debug":       "writes to the log of the process",
	"fromstream":        "can make an array of any size in one step",
	"halt":              "ends the process in jq",
	"halt_error":        "ends the process in jq; write error(…)",
	"now":               "depends on when it runs; the time of the event is $event.time",
	"localtime":         "depends on the zone of the process; write gmtime",
	"strflocaltime":     "depends on the zone of the process; write strftime",
	"get_search_list":   "reads files",
	"modulemeta":        "reads files",
	"builtins":          "gives another order each time",
}

// Functions and variables of our own that prepare puts into expressions, beside those of operators.
const (
	boundedIndex = "_bounded_index" // (index): itself, or an error
	boundedPath  = "_bounded_path"  // (path): itself, or an error
	zoneless     = "_zoneless"      // (format): itself, or an error
	operand      = "$__operand"     // a name that expressions must not use
)

func options() []gojq.CompilerOption {
	return slices.Concat([]gojq.CompilerOption{
		gojq.WithVariables([]string{"$event", "$data", "$params"}),
		gojq.WithFunction(boundedIndex, 1, 1, func(_ any, args []any) any { return checkIndex(args[0]) }),
		gojq.WithFunction(boundedPath, 1, 1, func(_ any, args []any) any { return checkPath(args[0]) }),
		gojq.WithFunction(zoneless, 1, 1, func(_ any, args []any) any { return checkFormat(args[0]) }),
		gojq.WithFunction(findAll, 3, 3, new(patterns).findAll),
	}, checks(), standIns())
}

// prepare refuses what makes results depend on more than the event, and puts limits around what could take seconds or a gigabyte in a
// single step.
func prepare(query *gojq.Query) error {
	var fault error
	refuse := func(err error) {
		if fault == nil {
			fault = err
		}
	}
	used := make(map[string]bool) // names of functions
	walk(reflect.ValueOf(query), func(node any) {
		switch node := node.(type) {
		case *gojq.Query:
			if node.Meta != nil || len(node.Imports) > 0 {
				refuse(errors.New("module, import and include are not allowed: an expression stands alone"))
			}
			boundOperator(node)
		case *gojq.ObjectKeyVal:
			if strings.HasPrefix(node.Key, "$") { // {$ENV} is {ENV: $ENV}; {env} is {env: .env}
				refuse(allowed(node.Key))
			}
		case *gojq.PatternObject:
			if node.KeyQuery != nil {
				node.KeyQuery = call(boundedIndex, node.KeyQuery)
			}
		case *gojq.FuncDef:
			if strings.HasPrefix(node.Name, "_") {
				refuse(fmt.Errorf("a function %s is not allowed: names that begin with _ are jq's own", node.Name))
			}
		case *gojq.Func:
			refuse(allowed(node.Name))
			used[node.Name] = true
			boundArguments(node)
		case *gojq.Term:
			if node.Type == gojq.TermTypeFormat {
				used[cmp.Or(formats[node.Format], "format")] = true
			}
		case *gojq.String:
			used["tostring"] = used["tostring"] || len(node.Queries) > 0
		case *gojq.Index:
			if !node.IsSlice && node.Start != nil {
				refuse(boundStart(node))
			}
		}
	})
	if fault != nil {
		return fault
	}
	return define(query, used)
}

// define puts the definitions that stand in for the used functions of gojq before the query's own, which may have the same names.
func define(query *gojq.Query, used map[string]bool) error {
	var text strings.Builder
	for _, b := range append(bounds(), bound{matchers, matching}) {
		if slices.ContainsFunc(b.names, func(name string) bool { return used[name] }) {
			text.WriteString(b.text)
			text.WriteByte('\n')
		}
	}
	if text.Len() == 0 {
		return nil
	}
	before, err := gojq.Parse(text.String() + ".")
	if err != nil {
		return fmt.Errorf("definitions of the dispatcher's own: %w", err)
	}
	query.FuncDefs = append(before.FuncDefs, query.FuncDefs...)
	return nil
}

// walk visits every node below v, those above before those below. gojq's tree is structs, pointers and slices with exported fields
// only, so that no kind of node can be forgotten.
func walk(v reflect.Value, visit func(node any)) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			visit(v.Interface())
			walk(v.Elem(), visit)
		}
	case reflect.Slice:
		for i := range v.Len() {
			walk(v.Index(i), visit)
		}
	case reflect.Struct:
		for _, field := range v.Fields() {
			walk(field, visit)
		}
	default: // names and numbers
	}
}

// allowed returns an error that says why the name must not be used, nil where it may.
func allowed(name string) error {
	why, ok := refused[name]
	switch {
	case ok:
	case name == operand, name == boundedIndex, name == boundedPath, name == zoneless: // ours
		return nil
	case strings.HasPrefix(name, "$__"):
		why = "belongs to jq's command"
	case strings.HasPrefix(name, "_"):
		for _, own := range operators {
			if name == own {
				return nil
			}
		}
		why = "belongs to what jq is made of"
	default:
		return nil
	}
	return fmt.Errorf("%s is not allowed: it %s", name, why)
}

func call(name string, args ...*gojq.Query) *gojq.Query {
	return &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeFunc, Func: &gojq.Func{Name: name, Args: args}}}
}

// boundOperator makes a call of L * R and the like, and of L *= R what that means: R as $x | L |= . * $x.
func boundOperator(q *gojq.Query) {
	name, ok := operators[q.Op]
	if !ok {
		return
	}
	left, right := q.Left, q.Right
	switch q.Op {
	case gojq.OpUpdateAdd, gojq.OpUpdateSub, gojq.OpUpdateMul:
		update := call(name, &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeIdentity}}, call(operand))
		q.Op, q.Left, q.Right = gojq.OpPipe, right, &gojq.Query{Op: gojq.OpModify, Left: left, Right: update}
		q.Patterns = []*gojq.Pattern{{Name: operand}}
	default:
		q.Op, q.Left, q.Right = 0, nil, nil
		q.Term = call(name, left, right).Term
	}
}

func boundArguments(f *gojq.Func) {
	switch {
	case f.Name == "setpath" && len(f.Args) == 2, f.Name == "getpath" && len(f.Args) == 1:
		f.Args[0] = call(boundedPath, f.Args[0])
	case f.Name == "strptime" && len(f.Args) == 1:
		f.Args[0] = call(zoneless, f.Args[0])
	}
}

// boundStart bounds the E of .[E]. A constant is checked here and now: gojq does better with constants.
func boundStart(x *gojq.Index) error {
	if t := x.Start.Term; t != nil && len(t.SuffixList) == 0 {
		switch t.Type {
		case gojq.TermTypeNumber:
			if n, err := gojq.Parse(t.Number); err == nil {
				if v, ok := n.Run(nil).Next(); ok {
					err, _ := checkIndex(v).(error)
					return err
				}
			}
		case gojq.TermTypeString:
			if t.Str.Queries == nil {
				return nil
			}
		default:
		}
	}
	x.Start = call(boundedIndex, x.Start)
	return nil
}

// checkRepeat returns an error where one of the two is a text and the other says how often to repeat it, and that is too long.
func checkRepeat(l, r any) error {
	text, ok := l.(string)
	times, isNumber := gojq.ToFloat64(r)
	if !ok || !isNumber {
		text, ok = r.(string)
		times, isNumber = gojq.ToFloat64(l)
	}
	if ok && isNumber && times*float64(len(text)) > MaxOutput {
		return fmt.Errorf("a text of %d bytes is repeated %.0f times, to more than %d bytes: is it meant to be a number?",
			len(text), times, MaxOutput)
	}
	return nil
}

// maxKey is the weight of a list that is an index: it is looked for at each place of the list that it is an index of.
const maxKey = 16

// checkIndex returns v, or an error where it is an array index that is too large.
func checkIndex(v any) any {
	if list, ok := v.([]any); ok && len(list) > 1 && weigh(v) > maxKey {
		return fmt.Errorf("a list of %d values is too long for an index: write indices(…)", len(list))
	}
	if n, ok := gojq.ToFloat64(v); ok && n > MaxIndex {
		return fmt.Errorf("the array index %.0f is above %d: for a key, write it as text", n, MaxIndex)
	}
	return v
}

func checkPath(v any) any {
	path, _ := v.([]any)
	if len(path) > maxNested {
		return fmt.Errorf("a path has %d steps: more than %d", len(path), maxNested)
	}
	for _, step := range path {
		if err, ok := checkIndex(step).(error); ok {
			return err
		}
	}
	return v
}

// checkFormat returns v, or an error where it is a format that reads the names of zones: what they mean depends on the process's own.
func checkFormat(v any) any {
	format, _ := v.(string)
	if readsZone(format) {
		return errors.New("strptime with %Z depends on the zone of the process: write %z")
	}
	return v
}

// readsZone tells whether the format has %Z; flags may stand between the two characters.
func readsZone(format string) bool {
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			continue
		}
		for i++; i < len(format) && strings.IndexByte("-_^#:EO0123456789", format[i]) >= 0; i++ {
			continue
		}
		if i < len(format) && format[i] == 'Z' {
			return true
		}
	}
	return false
}
