package cli

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// text is the value of a flag that may be given empty, which takes the option away. What is given is in no error of the parser.
type text struct {
	value string
	given bool
}

// Decode implements kong.MapperValue.
func (t *text) Decode(ctx *kong.DecodeContext) error {
	if err := ctx.Scan.PopValueInto("value", &t.value); err != nil { // not wrapped: it quotes what follows, perhaps a secret
		return errors.New("a value is missing; one that begins with a hyphen is written behind an equals sign")
	}
	t.given = true
	return nil
}

// texts are the values of a flag that may be repeated.
type texts []string

// Decode implements kong.MapperValue.
func (t *texts) Decode(ctx *kong.DecodeContext) error {
	var one text
	if err := one.Decode(ctx); err != nil {
		return err
	}
	*t = append(*t, one.value)
	return nil
}

// optionFlags are the options of a rule.
type optionFlags struct {
	EventType text `placeholder:"TYPE" help:"The event's type, for one that has no constant; the row's event must be empty."`
	Options   text `placeholder:"FILE" help:"JSON file of all options, as rules show --json has them; - is standard input. Other flags win."`
	Recipe    text `placeholder:"NAME" help:"Options made for a known receiver, see rules recipes. Other flags win."`
	Filter    text `placeholder:"JQ" help:"Send an event only where this jq expression is true."`
	Transform text `placeholder:"JQ" help:"Send what this jq expression makes of the event."`
	Shape     text `placeholder:"SHAPE" help:"Body: plugin (as the plugin sends it), cloudevents or standard (Standard Webhooks)."`

	Timeout       text `name:"timeout" placeholder:"D" help:"Limit over the whole exchange, 100ms to 10m."`
	Concurrency   text `name:"concurrency" placeholder:"N" help:"Requests in flight of each daemon to the rule's endpoint."`
	Rate          text `name:"rate" placeholder:"N" help:"Requests a second of each daemon to the rule's endpoint."`
	RetrySchedule text `name:"retry-schedule" placeholder:"D,D,…" help:"Delays between attempts."`

	Header texts `placeholder:"NAME: VALUE" help:"Header of each request; can be repeated. @FILE reads the value; no value removes it."`

	signingFlags
	authFlags
	certificateFlags

	// Parameters are those of the recipes; see recipeParameters.
	Parameters kong.Plugins `embed:""`
}

// check refuses what has no meaning for rules of a kind. What of the options has none is said by those who compile them.
func (f *optionFlags) check(k kindFlag) error {
	if k.filters() && (f.Recipe.given || len(f.parameters()) > 0) {
		return usagef("--recipe and its parameters are for webhooks, and have no meaning for a webfilter: leave them out")
	}
	return nil
}

// flag is a flag with its name.
type flag struct {
	name string
	*text
}

// plain are the options that stand in one field of the document and hold no secret.
func (f *optionFlags) plain() []struct {
	flag
	set func(d *rule.Document, value string) error
} {
	type option = struct {
		flag
		set func(d *rule.Document, value string) error
	}
	return []option{
		{flag{"event-type", &f.EventType}, func(d *rule.Document, v string) error { d.EventType = v; return nil }},
		{flag{"filter", &f.Filter}, func(d *rule.Document, v string) error { d.Filter = v; return nil }},
		{flag{"transform", &f.Transform}, func(d *rule.Document, v string) error { d.Transform = v; return nil }},
		{flag{"shape", &f.Shape}, func(d *rule.Document, v string) error { d.Shape = v; return nil }},
		{flag{"timeout", &f.Timeout}, setTimeout},
		{flag{"concurrency", &f.Concurrency}, setConcurrency},
		{flag{"rate", &f.Rate}, setRate},
		{flag{"retry-schedule", &f.RetrySchedule}, setRetrySchedule},
	}
}

func setTimeout(d *rule.Document, value string) error {
	d.Timeout = 0
	if value == "" || value == "0" {
		return nil
	}
	timeout, err := config.ParseDuration(value)
	d.Timeout = rule.Duration(timeout)
	return err
}

func setConcurrency(d *rule.Document, value string) (err error) {
	d.Concurrency = 0
	if value == "" {
		return nil
	}
	if d.Concurrency, err = strconv.Atoi(value); err != nil {
		return fmt.Errorf("%q is no whole number", value)
	}
	return nil
}

func setRate(d *rule.Document, value string) (err error) {
	d.Rate = 0
	if value == "" {
		return nil
	}
	d.Rate, err = strconv.ParseFloat(value, 64)
	if err != nil || math.IsNaN(d.Rate) || math.IsInf(d.Rate, 0) {
		return fmt.Errorf("%q is no number of requests a second, such as 20 or 0.5", value)
	}
	return nil
}

func setRetrySchedule(d *rule.Document, value string) error {
	d.RetrySchedule = nil
	if value == "" {
		return nil
	}
	for item := range strings.SplitSeq(value, ",") {
		delay, err := config.ParseDuration(strings.TrimSpace(item))
		if err != nil {
			return err
		}
		d.RetrySchedule = append(d.RetrySchedule, rule.Duration(delay))
	}
	return nil
}

// change is one step from the options that a rule has to those it is to have. It may be run again, on another draft.
type change func(*draft) error

// changes reads what the flags name, and returns the steps in their order; none where no flag was given.
func (f *optionFlags) changes(in *inputs) (steps []change, err error) {
	add := func(more ...change) { steps = append(steps, more...) }
	if f.Options.given && f.Recipe.given {
		return nil, usagef("--options and --recipe exclude each other: each is all options at once")
	}
	if f.Options.given {
		document, err := in.document(f.Options.value)
		if err != nil {
			return nil, err
		}
		add(func(d *draft) error { return d.replace(&document, in.sealing) })
	}
	apply, err := f.recipeChange()
	if err != nil {
		return nil, err
	}
	if apply != nil {
		add(apply)
	}
	for _, o := range f.plain() {
		if !o.given {
			continue
		}
		if err := o.set(new(rule.Document), o.value); err != nil {
			return nil, usagef("--%s: %w", o.name, err)
		}
		add(func(d *draft) error { return o.set(&d.document, o.value) })
	}
	headers, err := in.headers(f.Header)
	if err != nil {
		return nil, err
	}
	for _, read := range []func(*inputs) ([]change, error){f.signingFlags.changes, f.authFlags.changes, f.certificateFlags.changes} {
		more, err := read(in)
		if err != nil {
			return nil, err
		}
		headers = append(headers, more...)
	}
	add(headers...)
	return steps, f.valid()
}

// valid refuses what JSON cannot hold: it would be stored as something else.
func (f *optionFlags) valid() error {
	for _, o := range f.plain() {
		if o.value != strings.ToValidUTF8(o.value, "") {
			return usagef("--%s: the value is not UTF-8", o.name)
		}
	}
	return nil
}
