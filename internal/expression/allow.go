package expression

import (
	"cmp"
	_ "embed"
	"errors"
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

// names.txt lists the functions of gojq that are allowed as they are: their results depend on nothing
// but what they are given, and each of their steps takes time and memory in proportion to the top
// level of its input. Below are names, some unknown to gojq, whose users should read why they are not.
//
//go:embed names.txt
var namesText string

//go:embed prelude.jq
var preludeText string

// operators are the functions that those operators become which can take or make something large:
// gojq's own _add and _divide, and others of bounds.go and prelude.jq.
var operators = map[gojq.Operator]string{
	gojq.OpAdd: "_add", gojq.OpSub: "_minus", gojq.OpMul: "_times", gojq.OpDiv: "_divide",
	gojq.OpLt: "_lt", gojq.OpLe: "_le", gojq.OpEq: "_eq", gojq.OpNe: "_ne", gojq.OpGe: "_ge", gojq.OpGt: "_gt",
	gojq.OpModify: "_update", gojq.OpUpdateAdd: "_update_add", gojq.OpUpdateSub: "_update_minus",
	gojq.OpUpdateMul: "_update_times", gojq.OpUpdateDiv: "_update_divide",
}

// library holds what expressions may use.
type library struct {
	allowed []string
	refused string            // lines of names, and why
	defs    []*gojq.FuncDef   // of prelude.jq, bounded like those of expressions
	needs   []map[string]bool // names that each of defs uses
}

var prelude = sync.OnceValue(func() *library {
	allowed, refused, _ := strings.Cut(namesText, "\n\n")
	l := &library{allowed: strings.Fields(allowed), refused: refused, defs: parse(preludeText + ".").FuncDefs}
	for _, def := range l.defs {
		used, _ := bound(def)
		l.needs = append(l.needs, used)
		l.allowed = append(l.allowed, def.Name)
	}
	return l
})

// prepare refuses what is not allowed, bounds the rest, and adds the definitions that it needs.
func (l *library) prepare(query *gojq.Query) error {
	if err := l.check(query); err != nil {
		return err
	}
	used, err := bound(query)
	for i, def := range slices.Backward(l.defs) {
		if used[def.Name] {
			maps.Copy(used, l.needs[i])
			query.FuncDefs = slices.Insert(query.FuncDefs, 0, def)
		}
	}
	return err
}

// check returns an error where the query uses what is not allowed.
func (l *library) check(query *gojq.Query) (err error) {
	defined := make(map[string]bool)
	walk(query, func(node any) { // definitions before what is in their scope
		switch node := node.(type) {
		case *gojq.Query:
			if node.Meta != nil || len(node.Imports) > 0 {
				err = cmp.Or(err, errors.New("module, import and include are not allowed: an expression stands alone"))
			}
		case *gojq.FuncDef:
			for _, name := range append([]string{node.Name}, node.Args...) {
				name = strings.TrimPrefix(name, "$")
				if defined[name] = true; name[0] == '_' {
					err = cmp.Or(err, fmt.Errorf("a function %s is not allowed: names that begin with _ are jq's own", name))
				}
			}
		case *gojq.ObjectKeyVal:
			if strings.HasPrefix(node.Key, "$") { // {$ENV} is {ENV: $ENV}; {env} is {env: .env}
				err = cmp.Or(err, l.checkName(node.Key, 0, defined))
			}
		case *gojq.Func:
			err = cmp.Or(err, l.checkName(node.Name, len(node.Args), defined))
		}
	})
	return err
}

func (l *library) checkName(name string, args int, defined map[string]bool) error {
	for line := range strings.Lines(l.refused) {
		if names, why, _ := strings.Cut(strings.TrimSpace(line), ": "); slices.Contains(strings.Fields(names), name) {
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
func walk(tree any, visit func(node any)) { walkValue(reflect.ValueOf(tree), visit) }

func walkValue(v reflect.Value, visit func(node any)) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			visit(v.Interface())
			walkValue(v.Elem(), visit)
		}
	case reflect.Slice:
		for i := range v.Len() {
			walkValue(v.Index(i), visit)
		}
	case reflect.Struct:
		for _, field := range v.Fields() {
			walkValue(field, visit)
		}
	default: // names and numbers
	}
}

// bound rewrites what jq's syntax can do beyond the bounds of a step: operators, indices, and texts
// made of others. It returns the names of the functions that are used then.
func bound(tree any) (used map[string]bool, err error) {
	used = make(map[string]bool)
	walk(tree, func(node any) {
		switch node := node.(type) {
		case *gojq.Query:
			if name := operators[node.Op]; name != "" {
				made := call(name, node.Left, node.Right)
				if name == "_add" || name == "_divide" {
					made = pipe(made, "_made")
				}
				made.FuncDefs = node.FuncDefs
				*node = *made
			}
		case *gojq.PatternObject:
			if node.KeyQuery != nil {
				node.KeyQuery = pipe(node.KeyQuery, "_at")
			}
		case *gojq.Index:
			if node.Start == nil || node.IsSlice {
				return
			}
			t := node.Start.Term
			if t == nil || len(t.SuffixList) > 0 || t.Number == "" && (t.Str == nil || t.Str.Queries != nil) {
				node.Start = pipe(node.Start, "_at")
			} else { // a constant, which gojq does better with
				n, _ := strconv.ParseFloat(t.Number, 64)
				err = cmp.Or(err, indexable(n))
			}
		case *gojq.Func:
			used[node.Name] = true
		case *gojq.Term:
			if node.Type == gojq.TermTypeFormat && node.Str != nil { // @csv "a\(X)" is "a\(X | @csv)"
				node.Type = gojq.TermTypeString
				join(node.Str, node.Format)
			} else if node.Type == gojq.TermTypeFormat {
				node.Type, node.Func = gojq.TermTypeFunc, parse(`_format("`+node.Format[1:]+`")`).Term.Func
			}
		case *gojq.String:
			join(node, "tostring")
		}
	})
	return used, err
}

// join makes of a text of parts a sum, which is bounded as such.
func join(text *gojq.String, format string) {
	var sum *gojq.Query
	for _, part := range text.Queries {
		if part.Term.Str == nil {
			part = pipe(part, format)
		}
		if sum == nil {
			sum = part
		} else {
			sum = &gojq.Query{Left: sum, Op: gojq.OpAdd, Right: part}
		}
	}
	if sum != nil { // gojq takes a term with a Str for a text, and does not make it one
		term := &gojq.Term{Type: gojq.TermTypeQuery, Query: sum, Str: new(gojq.String)}
		text.Queries = []*gojq.Query{{Term: term}}
	}
}

func call(name string, args ...*gojq.Query) *gojq.Query {
	return &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeFunc, Func: &gojq.Func{Name: name, Args: args}}}
}

func pipe(q *gojq.Query, function string) *gojq.Query {
	right := call(function)
	if function[0] == '@' {
		right = parse(function)
	}
	return &gojq.Query{Left: q, Op: gojq.OpPipe, Right: right}
}

// parse is for texts of our own.
func parse(text string) *gojq.Query {
	query, err := gojq.Parse(text)
	if err != nil {
		panic(fmt.Errorf("%s: %w", text, err))
	}
	return query
}
