// Package expression runs the jq expressions of rules on events: filters, which say whether a rule
// fires, and transforms, whose result is what it sends.
//
// What it promises:
//
//   - The same event gives the same result, whenever and wherever it runs. What depends on the clock,
//     the zone, the environment or other inputs is refused when the expression is compiled.
//   - An expression calls only functions of an allow-list: those of gojq whose steps take time and
//     memory in proportion to their input (allow.go), and our own where gojq's do not (prelude.jq).
//     Operators, indices and updates are rewritten into such calls. What a step takes and makes is
//     bounded (bounds.go), so no step takes more than about a second and 300 MB; most take microseconds.
//   - A run ends after about MaxTime. The clock is looked at between steps (budget.go), so a run can
//     end late by one step, and fails then. A result has at most MaxOutput bytes.
//   - Whatever goes wrong is an error, a panic within gojq included. Runs share nothing that they write.
//
// Numbers: integers are exact whatever their size, and what is a float in the event stays one: 1.0
// comes out as 1.0. What jq computes follows jq: 4/2 is 2, 3/2 is 1.5, and floor and round give floats:
// `3.7 | floor` comes out as 3.0 (with `| tostring | tonumber` after it as 3). NaN comes out as null,
// and infinities as the largest doubles, as jq prints them. Objects come out with sorted keys.
//
// It is not a security boundary: expressions come from operators, and the limits are for mistakes. In
// 50 ms of steps memory can still grow to some hundred megabytes.
package expression

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/itchyny/gojq"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
)

// Limits of one run.
const (
	MaxTime   = 50 * time.Millisecond
	MaxOutput = 1 << 20 // bytes of the result as JSON
	MaxIndex  = 1 << 18 // of an array
)

// MaxText is how long an expression may be, in bytes.
const MaxText = 16 << 10

// maxError is how many characters of an error are kept: what failed may be as large as the event.
const maxError = 500

// Program is a compiled expression. It is immutable, except for Good, and safe for concurrent use.
type Program struct {
	// Good counts the runs that the caller found good.
	Good atomic.Uint64

	code   *gojq.Code
	params any
}

// Compile compiles an expression of at most MaxText bytes. Its input is what a plain rule sends,
// redacted; $event is its event_metadata, $data the data of the event, and $params the parameters of
// the rule, an Object or Null. The error may be shown: it holds nothing but parts of the expression.
func Compile(text string, params payload.Value) (*Program, error) {
	if len(text) > MaxText {
		return nil, fmt.Errorf("the expression has %d bytes: write %d at most", len(text), MaxText)
	}
	query, err := gojq.Parse(text)
	if err != nil {
		if parse, ok := errors.AsType[*gojq.ParseError](err); ok {
			return nil, cut("the expression does not parse: ", fmt.Errorf("%w, at byte %d", err, parse.Offset))
		}
		return nil, cut("the expression does not parse: ", err)
	}
	if err := prepare(query); err != nil {
		return nil, cut("", err)
	}
	options := append(functions(), gojq.WithVariables([]string{"$event", "$data", "$params"}))
	code, err := gojq.Compile(query, options...)
	if err != nil {
		return nil, cut("the expression does not compile: ", err)
	}
	return &Program{code: code, params: toJQ(params)}, nil
}

// Input is an event made ready for programs. It is for one goroutine at a time.
type Input struct {
	message           *payload.Message
	made              bool
	body, event, data any
}

// NewInput returns the input that programs get of the event. It is cheap: what programs read is made
// when the first of them runs, and shared by all. No run changes it.
func NewInput(m *payload.Message) *Input { return &Input{message: m} }

func (in *Input) make() {
	if in.made {
		return
	}
	body := in.message.Payload()
	all := toJQ(body).(map[string]any)
	in.made, in.body, in.event = true, all, all[payload.MetadataKey]
	if body.Len() == 2 {
		in.data = all[body.Key(0)]
		return
	}
	data := make(map[string]any, len(all))
	for key, v := range all {
		if key != payload.MetadataKey {
			data[key] = v
		}
	}
	in.data = data
}

// Test runs a filter: true only for the result true; false, null and no result are false, anything else
// is an error. An error may hold parts of the event: it must not be logged. It wraps ErrTooLong where
// the run took too long.
func (p *Program) Test(ctx context.Context, in *Input) (bool, error) {
	v, results, err := p.run(ctx, in)
	switch {
	case err != nil:
		return false, cut("the filter failed: ", err)
	case results > 1:
		return false, errors.New("the filter returned more than one result: " +
			"make it one, such as any(.roles[]; . == \"staff\")")
	case results == 0 || v == nil:
		return false, nil
	}
	fires, ok := v.(bool)
	if !ok {
		return false, fmt.Errorf("the filter returned %s: "+
			"make it true or false, such as $data.course.display_name != \"\"", described(v))
	}
	return fires, nil
}

// Apply runs a transform and returns its one result. No result, or more than one, is an error, as is one
// of more than MaxOutput bytes. An error may hold parts of the event: it must not be logged. It wraps
// ErrTooLong where the run took too long.
func (p *Program) Apply(ctx context.Context, in *Input) (payload.Value, error) {
	v, results, err := p.run(ctx, in)
	switch {
	case err != nil:
		return payload.Value{}, cut("the transform failed: ", err)
	case results == 0:
		return payload.Value{}, errors.New("the transform returned no result: " +
			"make it one, or leave events out with a filter")
	case results > 1:
		return payload.Value{}, errors.New("the transform returned more than one result: " +
			"make it one, such as a list of them: [ … ]")
	}
	if err := checkOutput(v); err != nil {
		return payload.Value{}, cut("the transform failed: ", err)
	}
	return fromJQ(v), nil
}

// run returns the first result, and how many there are: 0, 1, or 2 for more.
func (p *Program) run(ctx context.Context, in *Input) (first any, results int, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			first, results, err = nil, 0, fmt.Errorf("gojq panicked: %v", cause)
		}
	}()
	in.make()
	budget := newBudget(ctx)
	iter := p.code.RunWithContext(budget, in.body, in.event, in.data, p.params)
	for results < 2 {
		v, ok := iter.Next()
		if !ok {
			break
		}
		if failed, ok := v.(error); ok {
			thrown, ok := errors.AsType[gojq.ValueError](failed)
			if ok && !lighter(thrown.Value(), maxWeight) {
				failed = errors.New("an error with a value that is too large to be shown")
			}
			return nil, 0, cut("", failed) // its text is made here, where a panic is caught
		}
		if results++; results == 1 {
			first = v
		}
	}
	if err := budget.over(); err != nil {
		return nil, 0, err
	}
	return first, results, nil
}

func described(v any) string {
	switch v := v.(type) {
	case string:
		return "a string"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	default:
		return "a " + gojq.TypeOf(v)
	}
}

// cut returns the error with prefix before it, as valid UTF-8 of maxError characters at most.
func cut(prefix string, err error) error {
	if errors.Is(err, ErrTooLong) {
		return fmt.Errorf("%s%w", prefix, err)
	}
	text := prefix + err.Error()
	if len(text) > maxError*utf8.UTFMax {
		text = text[:maxError*utf8.UTFMax] // which may break a character
	}
	text = strings.ToValidUTF8(text, "\ufffd")
	if utf8.RuneCountInString(text) > maxError {
		text = string([]rune(text)[:maxError-1]) + "…"
	}
	return errors.New(text)
}
