package expression

import (
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/itchyny/gojq"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/suggest"
)

// names.txt lists the functions of gojq that are allowed as they are: their results depend on
// nothing but what they are given, and each of their steps takes time and memory in proportion to
// the top level of its input. Below are names, some unknown to gojq, and why they are refused.
var (
	//go:embed names.txt
	namesText string
	//go:embed prelude.jq
	preludeText string
)

// operators are the functions that those operators become which can take or make something large.
var operators = map[gojq.Operator]string{
	gojq.OpAdd: "_add", gojq.OpSub: "_minus", gojq.OpMul: "_times", gojq.OpDiv: "_over",
	gojq.OpLt: "_lt", gojq.OpLe: "_le", gojq.OpEq: "_eq", gojq.OpNe: "_ne", gojq.OpGe: "_ge", gojq.OpGt: "_gt", gojq.OpModify: "_update",
	gojq.OpUpdateAdd: "_update_add", gojq.OpUpdateSub: "_update_minus", gojq.OpUpdateMul: "_update_times", gojq.OpUpdateDiv: "_update_divide",
}

// library holds what expressions may use.
type library struct {
	allowed []string
	refused string            // lines of names, and why
	defs    []*gojq.FuncDef   // of prelude.jq, prepared like expressions
	needs   []map[string]bool // functions that each of defs uses
}

var prelude = sync.OnceValue(func() *library {
	query, err := gojq.Parse(preludeText + ".")
	if err != nil {
		panic(err)
	}
	allowed, refused, _ := strings.Cut(namesText, "\n\n")
	l := &library{allowed: strings.Fields(allowed), refused: refused, defs: query.FuncDefs}
	for _, def := range l.defs {
		used, _ := l.prepare(def) // it may use all that jq is made of
		l.needs = append(l.needs, used)
		l.allowed = append(l.allowed, def.Name)
	}
	return l
})

// prepare returns the names of the functions that the tree uses, or why it is not allowed. It
// rewrites what the syntax itself can do beyond the bounds of a step: operators and indices. A text
// made of parts is within them: each part is a step, and calls tostring or a format.
func (l *library) prepare(tree any) (used map[string]bool, err error) {
	used, defined, ours := map[string]bool{}, map[string]bool{}, map[*gojq.Func]bool{}
	call := func(name string, args ...*gojq.Query) *gojq.Query {
		f := &gojq.Func{Name: name, Args: args}
		ours[f] = true
		return &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeFunc, Func: f}}
	}
	checked := func(q *gojq.Query, check string) *gojq.Query {
		return &gojq.Query{Left: q, Op: gojq.OpPipe, Right: call(check)}
	}
	walk(reflect.ValueOf(tree), func(node any) { // definitions before what is in their scope
		var refusal error
		switch node := node.(type) {
		case *gojq.Query:
			if node.Meta != nil || len(node.Imports) > 0 {
				refusal = errors.New("module, import and include are not allowed: an expression stands alone")
			}
			if name := operators[node.Op]; name != "" {
				made := call(name, node.Left, node.Right)
				if node.Op == gojq.OpAdd {
					made = checked(made, "_made")
				}
				made.FuncDefs = node.FuncDefs
				*node = *made
			}
		case *gojq.FuncDef:
			for _, name := range append([]string{node.Name}, node.Args...) {
				name = strings.TrimPrefix(name, "$")
				if defined[name] = true; name[0] == '_' {
					refusal = fmt.Errorf("a function %s is not allowed: names that begin with _ are jq's own", name)
				}
			}
		case *gojq.ObjectKeyVal:
			if strings.HasPrefix(node.Key, "$") { // {$ENV} is {ENV: $ENV}; {env} is {env: .env}
				refusal = l.refusal(node.Key, 0, defined)
			}
		case *gojq.PatternObject:
			if node.KeyQuery != nil {
				node.KeyQuery = checked(node.KeyQuery, "_at")
			}
		case *gojq.Index:
			if node.Start == nil || node.IsSlice {
				return
			}
			if t := node.Start.Term; t == nil || len(t.SuffixList) > 0 || t.Number == "" && (t.Str == nil || t.Str.Queries != nil) {
				node.Start = checked(node.Start, "_at")
			} else if n, _ := strconv.ParseFloat(t.Number, 64); n > MaxIndex { // a constant, which gojq does better with
				refusal = fmt.Errorf("the array index %.0f is above %d: for a key, write it as text", n, MaxIndex)
			}
		case *gojq.Func:
			if used[node.Name] = true; !ours[node] {
				refusal = l.refusal(node.Name, len(node.Args), defined)
			}
		case *gojq.String:
			if len(node.Queries) > 0 {
				used["tostring"] = true
			}
		case *gojq.Term:
			if node.Format != "" {
				used["_formats"] = true
			}
		}
		err = cmp.Or(err, refusal)
	})
	return used, err
}

// refusal returns why a name is not allowed.
func (l *library) refusal(name string, args int, defined map[string]bool) error {
	for line := range strings.Lines(l.refused) {
		names, why, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if slices.Contains(strings.Fields(names), name) {
			return fmt.Errorf("%s is not allowed: it %s", name, why)
		}
	}
	switch {
	case strings.HasPrefix(name, "$__"), name[0] == '_':
		return fmt.Errorf("%s is not allowed: it belongs to what jq is made of", name)
	case name[0] == '$', defined[name], slices.Contains(l.allowed, name):
		return nil
	}
	near := suggest.Nearest(name, l.allowed)
	if near != "" {
		near = ": did you mean " + near + "?"
	}
	return fmt.Errorf("the expression does not compile: function not defined: %s/%d%s", name, args, near)
}

// walk visits every node of the tree, those above before those below. gojq's trees are structs,
// pointers and slices with exported fields only, so that no kind of node can be forgotten.
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
	default: // a name or a number
	}
}
