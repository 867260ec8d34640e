package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/alecthomas/kong"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// decodeText reads the value of a flag that may be given empty, which takes the option away: a
// *string, nil where the flag was not given. What is given is in no error of the parser.
func decodeText(ctx *kong.DecodeContext, target reflect.Value) error {
	value, err := popText(ctx)
	target.Set(reflect.ValueOf(&value))
	return err
}

func popText(ctx *kong.DecodeContext) (value string, err error) {
	if err := ctx.Scan.PopValueInto("value", &value); err != nil { // not wrapped: it quotes what follows, perhaps a secret
		return "", errors.New("a value is missing; one that begins with a hyphen is written behind an equals sign")
	}
	return value, nil
}

// texts are the values of a flag that may be repeated.
type texts []string

// Decode implements kong.MapperValue.
func (t *texts) Decode(ctx *kong.DecodeContext) error {
	value, err := popText(ctx)
	*t = append(*t, value)
	return err
}

// optionFlags are the options of a rule.
type optionFlags struct {
	EventType *string `placeholder:"TYPE" help:"The event's type, for one that has no constant; the row's event must be empty."`
	Options   *string `placeholder:"FILE" help:"JSON file of all options, as in rules show --json; - is standard input. Other flags win."`
	Preset    *string `placeholder:"NAME" help:"Options made for a known receiver, see rules presets. Other flags win."`
	Param     texts   `placeholder:"KEY=VALUE" help:"Parameter of the preset; can be repeated."`
	Filter    *string `placeholder:"JQ" help:"Send an event only where this jq expression is true."`
	Transform *string `placeholder:"JQ" help:"Send what this jq expression makes of the event."`
	Shape     *string `placeholder:"SHAPE" help:"Body: plugin (as the plugin sends it), cloudevents or standard (Standard Webhooks)."`

	Timeout       *string `name:"timeout" placeholder:"D" help:"Limit over the whole exchange, 100ms to 10m."`
	Concurrency   *string `name:"concurrency" placeholder:"N" help:"Requests in flight of each daemon to the rule's endpoint."`
	Rate          *string `name:"rate" placeholder:"N" help:"Requests a second of each daemon to the rule's endpoint."`
	RetrySchedule *string `name:"retry-schedule" placeholder:"D,D,…" help:"Delays between attempts."`

	Header texts `placeholder:"NAME: VALUE" help:"Header of each request; can be repeated. @FILE reads the value; no value removes it."`

	Scheme            *string `placeholder:"SCHEME" help:"Signature: standard, sig-hmac-sha256, generic, or none whatever the settings say."`
	Secret            *string `placeholder:"SECRET" help:"Secret that signs. As with all secrets, @FILE reads a file and - standard input."`
	SignatureHeader   *string `placeholder:"NAME" help:"Header of the scheme generic."`
	SignaturePrefix   *string `placeholder:"TEXT" help:"What stands before the signature, such as sha256=."`
	SignatureEncoding *string `placeholder:"E" help:"Encoding of the signature: hex (default) or base64."`
	SignatureHash     *string `placeholder:"HASH" help:"Hash of the signature: sha256 (default), sha512 or sha1."`

	Auth             *string `placeholder:"AUTH" help:"Authorization: bearer, basic, oauth2 (client credentials) or none."`
	AuthToken        *string `placeholder:"SECRET" help:"Token of bearer."`
	AuthUser         *string `placeholder:"NAME" help:"User of basic."`
	AuthPassword     *string `placeholder:"SECRET" help:"Password of basic."`
	AuthTokenURL     *string `name:"auth-token-url" placeholder:"URL" help:"Where oauth2 gets its tokens."`
	AuthClientID     *string `name:"auth-client-id" placeholder:"ID" help:"Client of oauth2."`
	AuthClientSecret *string `placeholder:"SECRET" help:"Secret of that client."`
	AuthScope        *string `placeholder:"S,S,…" help:"Scopes that oauth2 asks for."`
	AuthAudience     *string `placeholder:"TEXT" help:"Audience that oauth2 asks for."`
	AuthStyle        *string `placeholder:"STYLE" help:"Where oauth2 says its client: header (default) or body."`

	ClientCert *string `placeholder:"FILE" help:"PEM file of the client certificate and its chain; none takes it away."`
	ClientKey  *string `placeholder:"FILE" help:"PEM file of its key; the certificate's own by default."`
}

// change reads what the flags name.
func (f *optionFlags) change(in *inputs) (admin.OptionChange, error) {
	if f.Options != nil && f.Preset != nil {
		return admin.OptionChange{}, usagef("--options and --preset exclude each other: each is all options at once")
	}
	c := admin.OptionChange{
		Preset: f.Preset, Params: in.params(f.Param),
		EventType: f.EventType, Filter: f.Filter, Transform: f.Transform, Shape: f.Shape,
		Timeout: limit(in, "timeout", f.Timeout, readTimeout), Concurrency: limit(in, "concurrency", f.Concurrency, readConcurrency),
		Rate: limit(in, "rate", f.Rate, readRate), RetrySchedule: limit(in, "retry-schedule", f.RetrySchedule, readSchedule),
		Headers: in.headers(f.Header),
		Scheme:  f.Scheme, SignatureHeader: f.SignatureHeader, SignaturePrefix: f.SignaturePrefix,
		SignatureEncoding: f.SignatureEncoding, SignatureHash: f.SignatureHash, Secret: in.secret("secret", f.Secret),
		Auth: f.Auth, AuthToken: in.secret("auth-token", f.AuthToken), AuthUser: f.AuthUser,
		AuthPassword: in.secret("auth-password", f.AuthPassword), AuthTokenURL: f.AuthTokenURL, AuthClientID: f.AuthClientID,
		AuthClientSecret: in.secret("auth-client-secret", f.AuthClientSecret), AuthAudience: f.AuthAudience, AuthStyle: f.AuthStyle,
	}
	if f.Options != nil {
		document, err := in.document(*f.Options)
		in.keep(err)
		c.Replace = &document
	}
	if f.AuthScope != nil {
		scopes := strings.FieldsFunc(*f.AuthScope, func(r rune) bool { return r == ',' || r == ' ' })
		c.AuthScopes = &scopes
	}
	c.ClientCert, c.ClientKey = in.certificate(f.ClientCert, f.ClientKey)
	return c, in.err
}

func readTimeout(value string) (rule.Duration, error) {
	if value == "0" {
		return 0, nil
	}
	timeout, err := config.ParseDuration(value)
	return rule.Duration(timeout), err
}

func readConcurrency(value string) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number", value)
	}
	return n, nil
}

func readRate(value string) (float64, error) {
	rate, err := strconv.ParseFloat(value, 64)
	if err != nil || math.IsNaN(rate) || math.IsInf(rate, 0) {
		return 0, fmt.Errorf("%q is not a number of requests a second, such as 20 or 0.5", value)
	}
	return rate, nil
}

func readSchedule(value string) (delays []rule.Duration, err error) {
	for item := range strings.SplitSeq(value, ",") {
		delay, err := config.ParseDuration(strings.TrimSpace(item))
		if err != nil {
			return nil, err
		}
		delays = append(delays, rule.Duration(delay))
	}
	return delays, nil
}

// maxInput is how many bytes of a file or of standard input are read. A rule's secrets have to fit a column of 64 KiB.
const maxInput = 1 << 20

// inputs reads what flags name, standard input once.
type inputs struct {
	stdin io.Reader
	taken string // the flag that standard input was read for
	err   error  // the first, which ends the command
}

func (in *inputs) keep(err error) { in.err = cmp.Or(in.err, err) }

// read returns the content of a file, or of standard input for "-". Its errors do not hold the
// name: what was meant as the content may stand in its place.
func (in *inputs) read(flag, path string) ([]byte, error) {
	from := in.stdin
	switch {
	case path != "-":
		f, err := os.Open(path)
		if err != nil {
			return nil, usagef("--%s: the file that it names cannot be read: %w", flag, bare(err))
		}
		defer f.Close() //nolint:errcheck // it was only read
		from = f
	case in.taken != "":
		return nil, usagef("--%s: standard input was read for --%s already: name a file", flag, in.taken)
	case from == nil:
		return nil, usagef("--%s: there is no standard input", flag)
	default:
		in.taken = flag
	}
	content, err := io.ReadAll(io.LimitReader(from, maxInput+1))
	switch {
	case err != nil:
		return nil, usagef("--%s: what it names cannot be read: %w", flag, bare(err))
	case len(content) > maxInput:
		return nil, usagef("--%s: what it names is larger than %d bytes", flag, maxInput)
	}
	return content, nil
}

// bare takes the name of the file out of an error.
func bare(err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err
	}
	return err
}

// secret returns what the value of a secret's flag means: @FILE a file without the line break at its end, - standard input, anything
// else itself.
func (in *inputs) secret(flag string, given *string) *string {
	if given == nil {
		return nil
	}
	content := []byte(*given)
	if path, named := strings.CutPrefix(*given, "@"); named || *given == "-" {
		var err error
		content, err = in.read(flag, path)
		in.keep(err)
	}
	secret := strings.TrimRight(string(content), "\r\n")
	switch {
	case secret == "" && *given != "":
		in.keep(usagef("--%s: what it names is empty", flag))
	case !utf8.ValidString(secret):
		in.keep(usagef("--%s: the value is not UTF-8", flag))
	}
	return &secret
}

// headers reads the flags of headers. Their errors hold the name alone: a value is often a secret.
func (in *inputs) headers(flags []string) (headers []admin.Header) {
	for _, given := range flags {
		name, value, found := strings.Cut(given, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !found || name == "" {
			in.keep(usagef("--header: a colon is missing behind the name: write 'Name: value' (not shown, it may be a secret)"))
		}
		if strings.HasPrefix(value, "@") {
			value = *in.secret("header", &value)
		}
		headers = append(headers, admin.Header{Name: name, Value: value})
	}
	return headers
}

// params reads the parameters of a preset.
func (in *inputs) params(given []string) (values map[string]string) {
	for _, pair := range given {
		key, value, found := strings.Cut(pair, "=")
		if !found || key == "" {
			in.keep(usagef("--param: an equals sign is missing: write KEY=VALUE"))
		}
		if values == nil {
			values = make(map[string]string)
		}
		values[key] = value
	}
	return values
}

// limit reads an option, nil where it is not given. An empty one means none of the rule's own.
func limit[V any](in *inputs, name string, given *string, read func(string) (V, error)) *V {
	if given == nil {
		return nil
	}
	value := new(V)
	if *given != "" {
		var err error
		if *value, err = read(*given); err != nil {
			in.keep(usagef("--%s: %w", name, err))
		}
	}
	return value
}

// certificate reads the files of a client certificate, nil where none is given.
func (in *inputs) certificate(cert, key *string) (chain *string, keyText string) {
	switch {
	case cert == nil && key != nil:
		in.keep(usagef("--client-key goes with --client-cert: add it"))
		return nil, ""
	case cert == nil:
		return nil, ""
	case *cert == "" || *cert == "none":
		return new(string), ""
	}
	content, err := in.read("client-cert", *cert)
	in.keep(err)
	// An empty file holds no certificate, and does not take one away.
	text := cmp.Or(string(content), "\n")
	if key != nil && *key != "" {
		content, err = in.read("client-key", *key)
		in.keep(err)
		keyText = string(content)
	}
	return &text, keyText
}

// document reads a file of options.
func (in *inputs) document(path string) (rule.Document, error) {
	content, err := in.read("options", path)
	if err != nil {
		return rule.Document{}, err
	}
	return admin.ParseOptions(content)
}
