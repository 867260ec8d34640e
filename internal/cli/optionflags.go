package cli

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
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

// ptr returns the value for a change, nil where the flag was not given.
func (t *text) ptr() *string {
	if !t.given {
		return nil
	}
	return &t.value
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
	EventType text  `placeholder:"TYPE" help:"The event's type, for one that has no constant; the row's event must be empty."`
	Options   text  `placeholder:"FILE" help:"JSON file of all options, as rules show --json has them; - is standard input. Other flags win."`
	Preset    text  `placeholder:"NAME" help:"Options made for a known receiver, see rules presets. Other flags win."`
	Param     texts `placeholder:"KEY=VALUE" help:"Parameter of the preset; can be repeated."`
	Filter    text  `placeholder:"JQ" help:"Send an event only where this jq expression is true."`
	Transform text  `placeholder:"JQ" help:"Send what this jq expression makes of the event."`
	Shape     text  `placeholder:"SHAPE" help:"Body: plugin (as the plugin sends it), cloudevents or standard (Standard Webhooks)."`

	Timeout       text `name:"timeout" placeholder:"D" help:"Limit over the whole exchange, 100ms to 10m."`
	Concurrency   text `name:"concurrency" placeholder:"N" help:"Requests in flight of each daemon to the rule's endpoint."`
	Rate          text `name:"rate" placeholder:"N" help:"Requests a second of each daemon to the rule's endpoint."`
	RetrySchedule text `name:"retry-schedule" placeholder:"D,D,…" help:"Delays between attempts."`

	Header texts `placeholder:"NAME: VALUE" help:"Header of each request; can be repeated. @FILE reads the value; no value removes it."`

	Scheme            text `placeholder:"SCHEME" help:"Signature: standard, sig-hmac-sha256, generic, or none whatever the settings say."`
	Secret            text `placeholder:"SECRET" help:"Secret that signs. As with all secrets, @FILE reads a file and - standard input."`
	SignatureHeader   text `placeholder:"NAME" help:"Header of the scheme generic."`
	SignaturePrefix   text `placeholder:"TEXT" help:"What stands before the signature, such as sha256=."`
	SignatureEncoding text `placeholder:"E" help:"Encoding of the signature: hex (default) or base64."`
	SignatureHash     text `placeholder:"HASH" help:"Hash of the signature: sha256 (default), sha512 or sha1."`

	Auth             text `placeholder:"AUTH" help:"Authorization: bearer, basic, oauth2 (client credentials) or none."`
	AuthToken        text `placeholder:"SECRET" help:"Token of bearer."`
	AuthUser         text `placeholder:"NAME" help:"User of basic."`
	AuthPassword     text `placeholder:"SECRET" help:"Password of basic."`
	AuthTokenURL     text `name:"auth-token-url" placeholder:"URL" help:"Where oauth2 gets its tokens."`
	AuthClientID     text `name:"auth-client-id" placeholder:"ID" help:"Client of oauth2."`
	AuthClientSecret text `placeholder:"SECRET" help:"Secret of that client."`
	AuthScope        text `placeholder:"S,S,…" help:"Scopes that oauth2 asks for."`
	AuthAudience     text `placeholder:"TEXT" help:"Audience that oauth2 asks for."`
	AuthStyle        text `placeholder:"STYLE" help:"Where oauth2 says its client: header (default) or body."`

	ClientCert text `placeholder:"FILE" help:"PEM file of the client certificate and its chain; none takes it away."`
	ClientKey  text `placeholder:"FILE" help:"PEM file of its key; the certificate's own by default."`
}

// change reads what the flags name.
func (f *optionFlags) change(in *inputs) (c admin.OptionChange, err error) {
	c = admin.OptionChange{
		Preset: f.Preset.ptr(), EventType: f.EventType.ptr(), Filter: f.Filter.ptr(), Transform: f.Transform.ptr(), Shape: f.Shape.ptr(),
		Scheme: f.Scheme.ptr(), SignatureHeader: f.SignatureHeader.ptr(), SignaturePrefix: f.SignaturePrefix.ptr(),
		SignatureEncoding: f.SignatureEncoding.ptr(), SignatureHash: f.SignatureHash.ptr(),
		Auth: f.Auth.ptr(), AuthUser: f.AuthUser.ptr(), AuthTokenURL: f.AuthTokenURL.ptr(), AuthClientID: f.AuthClientID.ptr(),
		AuthAudience: f.AuthAudience.ptr(), AuthStyle: f.AuthStyle.ptr(),
	}
	if f.Options.given && f.Preset.given {
		return c, usagef("--options and --preset exclude each other: each is all options at once")
	}
	if f.Options.given {
		document, err := in.document(f.Options.value)
		if err != nil {
			return c, err
		}
		c.Replace = &document
	}
	if c.Params, err = params(f.Param); err != nil {
		return c, err
	}
	if err := f.limits(&c); err != nil {
		return c, err
	}
	if c.Headers, err = in.headers(f.Header); err != nil {
		return c, err
	}
	for _, s := range [...]struct {
		name string
		*text
		into **string
	}{
		{"secret", &f.Secret, &c.Secret},
		{"auth-token", &f.AuthToken, &c.AuthToken},
		{"auth-password", &f.AuthPassword, &c.AuthPassword},
		{"auth-client-secret", &f.AuthClientSecret, &c.AuthClientSecret},
	} {
		if !s.given {
			continue
		}
		secret, err := in.secret(s.name, s.value)
		if err != nil {
			return c, err
		}
		*s.into = &secret
	}
	if f.AuthScope.given {
		scopes := strings.FieldsFunc(f.AuthScope.value, func(r rune) bool { return r == ',' || r == ' ' })
		c.AuthScopes = &scopes
	}
	return c, f.certificate(in, &c)
}

// params reads the parameters of a preset.
func params(given []string) (map[string]string, error) {
	values := make(map[string]string)
	for _, pair := range given {
		key, value, found := strings.Cut(pair, "=")
		if !found || key == "" {
			return nil, usagef("--param: an equals sign is missing: write KEY=VALUE")
		}
		values[key] = value
	}
	return values, nil
}

// limits reads the options that are durations and numbers. An empty one means none of the rule's own.
func (f *optionFlags) limits(c *admin.OptionChange) error {
	for _, o := range [...]struct {
		name string
		*text
		read func(value string) error
	}{
		{"timeout", &f.Timeout, func(v string) (err error) { c.Timeout, err = readTimeout(v); return err }},
		{"concurrency", &f.Concurrency, func(v string) (err error) { c.Concurrency, err = readConcurrency(v); return err }},
		{"rate", &f.Rate, func(v string) (err error) { c.Rate, err = readRate(v); return err }},
		{"retry-schedule", &f.RetrySchedule, func(v string) (err error) { c.RetrySchedule, err = readSchedule(v); return err }},
	} {
		if !o.given {
			continue
		}
		if err := o.read(o.value); err != nil {
			return usagef("--%s: %w", o.name, err)
		}
		if o.value != strings.ToValidUTF8(o.value, "") {
			return usagef("--%s: the value is not UTF-8", o.name)
		}
	}
	return nil
}

func readTimeout(value string) (*rule.Duration, error) {
	if value == "" || value == "0" {
		return new(rule.Duration), nil
	}
	timeout, err := config.ParseDuration(value)
	read := rule.Duration(timeout)
	return &read, err
}

func readConcurrency(value string) (*int, error) {
	if value == "" {
		return new(int), nil
	}
	n, err := strconv.Atoi(value)
	if err != nil {
		return nil, fmt.Errorf("%q is no whole number", value)
	}
	return &n, nil
}

func readRate(value string) (*float64, error) {
	if value == "" {
		return new(float64), nil
	}
	rate, err := strconv.ParseFloat(value, 64)
	if err != nil || math.IsNaN(rate) || math.IsInf(rate, 0) {
		return nil, fmt.Errorf("%q is no number of requests a second, such as 20 or 0.5", value)
	}
	return &rate, nil
}

func readSchedule(value string) (*[]rule.Duration, error) {
	var delays []rule.Duration
	if value == "" {
		return &delays, nil
	}
	for item := range strings.SplitSeq(value, ",") {
		delay, err := config.ParseDuration(strings.TrimSpace(item))
		if err != nil {
			return nil, err
		}
		delays = append(delays, rule.Duration(delay))
	}
	return &delays, nil
}

// certificate reads the files of a client certificate.
func (f *optionFlags) certificate(in *inputs, c *admin.OptionChange) error {
	switch {
	case !f.ClientCert.given && f.ClientKey.given:
		return usagef("--client-key goes with --client-cert: add it")
	case !f.ClientCert.given:
		return nil
	}
	c.ClientCert = new(string)
	if f.ClientCert.value == "" || f.ClientCert.value == "none" {
		return nil
	}
	chain, err := in.readFile("client-cert", f.ClientCert.value)
	if err != nil {
		return err
	}
	if *c.ClientCert = string(chain); *c.ClientCert == "" {
		*c.ClientCert = "\n" // an empty file holds no certificate, and does not take one away
	}
	if f.ClientKey.value != "" {
		key, err := in.readFile("client-key", f.ClientKey.value)
		if err != nil {
			return err
		}
		c.ClientKey = string(key)
	}
	return nil
}
