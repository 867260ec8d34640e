// Package expression runs the jq expressions of rules on events: filters, which say whether a rule
// fires, and transforms, whose result is what it sends.
//
// The same event gives the same result, whenever and wherever it runs. An expression calls only
// what names.txt allows and prelude.jq defines; operators and indices are rewritten into such calls
// (allow.go). What a step takes and makes is bounded (bounds.go): at worst it takes about a second
// and 300 MB, and usually microseconds. A run ends after about MaxTime; one that ends late, by one
// step, fails. Whatever goes wrong is an error, a panic within gojq included. Runs share nothing
// that they write. It is not a security boundary: the limits are for the mistakes of operators.
//
// Integers are exact whatever their size, and a float of the event stays one: 1.0 comes out as 1.0.
// What jq computes follows jq: 4/2 is 2, and `3.7 | floor` is 3.0 (3 with `| tostring | tonumber`).
// What becomes of numbers that JSON has not, and of the order of keys, is payload.FromPlain's.
package expression

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/itchyny/gojq"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
)

// Limits of an expression and of one run.
const (
	MaxText   = 16 << 10 // bytes of the expression
	MaxTime   = 50 * time.Millisecond
	MaxOutput = 1 << 20 // bytes of the result as JSON
	MaxIndex  = 1 << 18 // of an array

	maxDepth = 400 // of nesting in a result: what reads bodies back takes no more
	maxError = 500 // characters of an error: what failed may be as large as the event
)

// Program is a compiled expression. It is immutable, except for Good, and safe for concurrent use.
type Program struct {
	Good atomic.Uint64 // runs that the caller found good

	code   *gojq.Code
	params any
}

// Compile compiles an expression of at most MaxText bytes. Its input is what a plain rule sends,
// redacted; $event is its event_metadata, $data the data of the event, and $params the parameters
// of the rule, an Object or Null. The error may be shown: it holds only parts of the expression.
func Compile(text string, params payload.Value) (*Program, error) {
	if len(text) > MaxText {
		return nil, fmt.Errorf("the expression has %d bytes: write %d at most", len(text), MaxText)
	}
	query, err := gojq.Parse(text)
	if err != nil {
		if parse, ok := errors.AsType[*gojq.ParseError](err); ok {
			err = fmt.Errorf("%w, at byte %d", err, parse.Offset)
		}
		return nil, cut("the expression does not parse: ", err)
	}
	used, err := prelude().prepare(query)
	if err != nil {
		return nil, cut("", err)
	}
	for i, def := range slices.Backward(prelude().defs) {
		if used[def.Name] {
			maps.Copy(used, prelude().needs[i])
			query.FuncDefs = slices.Insert(query.FuncDefs, 0, def)
		}
	}
	code, err := gojq.Compile(query, append(functions(), gojq.WithVariables([]string{"$event", "$data", "$params"}))...)
	if err != nil {
		return nil, cut("the expression does not compile: ", err)
	}
	return &Program{code: code, params: params.Plain()}, nil
}

// Input is an event made ready for programs. It is for one goroutine at a time.
type Input struct {
	message           *payload.Message
	made              bool
	body, event, data any
}

// NewInput returns the input that programs get of the event. It is cheap: what programs read is
// made when the first of them runs, and shared by all. No run changes it.
func NewInput(m *payload.Message) *Input { return &Input{message: m} }

func (in *Input) make() {
	if in.made {
		return
	}
	body := in.message.Payload()
	all := body.Plain().(map[string]any)
	in.made, in.body, in.event, in.data = true, all, all[payload.MetadataKey], all[body.Key(0)]
	if body.Len() != 2 { // then the data is not that of one class
		in.data = payload.Data(body).Plain()
	}
}

// Test runs a filter. Null and no result are false; any other result but true or false is an error.
// It may hold parts of the event and must not be logged; after a long run it wraps ErrTooLong.
func (p *Program) Test(ctx context.Context, in *Input) (bool, error) {
	v, _, err := p.run(ctx, in, "the filter ")
	if err != nil || v == nil {
		return false, err
	}
	fires, ok := v.(bool)
	if !ok {
		kind := cmp.Or(map[string]string{"array": "a list", "object": "an object"}[gojq.TypeOf(v)], "a "+gojq.TypeOf(v))
		return false, fmt.Errorf("the filter returned %s: make it true or false, such as $data.course.display_name != \"\"", kind)
	}
	return fires, nil
}

// Apply runs a transform and returns its one result of at most MaxOutput bytes, counted as never
// more than what is written in the end. Errors are those of Test.
func (p *Program) Apply(ctx context.Context, in *Input) (payload.Value, error) {
	v, found, err := p.run(ctx, in, "the transform ")
	if err == nil {
		switch left := weigh(v, MaxOutput, 1, maxDepth); {
		case !found:
			err = errors.New("the transform returned no result: make it one, or leave events out with a filter")
		case left == tooDeep:
			err = fmt.Errorf("the transform failed: the result is nested deeper than %d", maxDepth)
		case left < 0:
			err = fmt.Errorf("the transform failed: the result has more than %d bytes as JSON", MaxOutput)
		}
	}
	if err != nil {
		return payload.Value{}, err
	}
	return payload.FromPlain(v), nil
}

// run returns the result, if there is one. More than one is an error.
func (p *Program) run(ctx context.Context, in *Input, what string) (result any, found bool, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = cut(what, fmt.Errorf("failed: gojq panicked: %v", cause))
		}
	}()
	in.make()
	budget := &budget{Context: ctx, begin: time.Now()}
	iter := p.code.RunWithContext(budget, in.body, in.event, in.data, p.params)
	for {
		v, more := iter.Next()
		failure, _ := v.(error)
		if !more {
			failure = budget.over()
		}
		switch {
		case failure != nil:
			if thrown, ok := errors.AsType[gojq.ValueError](failure); ok && !lighter(thrown.Value(), maxWeight) {
				failure = errors.New("an error with a value that is too large to be shown")
			}
			return nil, false, cut(what+"failed: ", failure) // its text is made here, where a panic is caught
		case !more:
			return result, found, nil
		case found:
			return nil, false, fmt.Errorf("%sreturned more than one result: "+
				"make it one, such as any(.roles[]; . == \"staff\"), or a list: [ … ]", what)
		}
		result, found = v, true
	}
}

// cut returns the error with prefix before it, as valid UTF-8 of maxError characters at most.
func cut(prefix string, err error) error {
	if errors.Is(err, ErrTooLong) {
		return fmt.Errorf("%s%w", prefix, err)
	}
	text := []rune(prefix + err.Error())
	if len(text) > maxError {
		text = append(text[:maxError-1], '…')
	}
	return errors.New(string(text))
}
