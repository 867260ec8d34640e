package admin

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// none is the word that takes an option away.
const none = "none"

// OptionChange says what is to change of the options of a rule. What is nil stays as it is; an empty
// value takes an option away. Changes are made in the order of the fields.
type OptionChange struct {
	// Replace takes the place of all options. Secrets stay where these have the same use for them.
	Replace *rule.Document `json:"replace,omitempty"`
	// Preset lays the options of a preset over those of the rule, made of Params and of the parameters
	// that the rule has. Params alone change those, and nothing else of the rule.
	Preset *string           `json:"preset,omitempty"`
	Params map[string]string `json:"params,omitempty"`

	EventType     *string          `json:"event_type,omitempty"`
	Filter        *string          `json:"filter,omitempty"`
	Transform     *string          `json:"transform,omitempty"`
	Shape         *string          `json:"shape,omitempty"`
	Timeout       *rule.Duration   `json:"timeout,omitempty"`
	Concurrency   *int             `json:"concurrency,omitempty"`
	Rate          *float64         `json:"rate,omitempty"`
	RetrySchedule *[]rule.Duration `json:"retry_schedule,omitempty"`
	// Headers without a value are taken away. Values are sealed where there is a key.
	Headers []Header `json:"headers,omitempty"`

	// Scheme drops the secrets of another scheme.
	Scheme            *string `json:"scheme,omitempty"`
	SignatureHeader   *string `json:"signature_header,omitempty"`
	SignaturePrefix   *string `json:"signature_prefix,omitempty"`
	SignatureEncoding *string `json:"signature_encoding,omitempty"`
	SignatureHash     *string `json:"signature_hash,omitempty"`
	// Secret becomes the only secret that signs; without a scheme it signs by Standard Webhooks.
	Secret *string `json:"secret,omitempty"`

	// Auth drops what another kind of authorization had.
	Auth             *string   `json:"auth,omitempty"`
	AuthToken        *string   `json:"auth_token,omitempty"`
	AuthUser         *string   `json:"auth_user,omitempty"`
	AuthPassword     *string   `json:"auth_password,omitempty"`
	AuthTokenURL     *string   `json:"auth_token_url,omitempty"`
	AuthClientID     *string   `json:"auth_client_id,omitempty"`
	AuthClientSecret *string   `json:"auth_client_secret,omitempty"`
	AuthScopes       *[]string `json:"auth_scopes,omitempty"`
	AuthAudience     *string   `json:"auth_audience,omitempty"`
	AuthStyle        *string   `json:"auth_style,omitempty"`

	// ClientCert are PEM blocks: certificate, chain, and the key unless ClientKey has it.
	ClientCert *string `json:"client_cert,omitempty"`
	ClientKey  string  `json:"client_key,omitempty"`
}

// Header is a header of a request.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Empty reports whether nothing is to change.
func (c *OptionChange) Empty() bool {
	return reflect.ValueOf(*c).IsZero()
}

// textOption is an option that is a text.
type textOption struct {
	field string // of a Problem
	value *string
	// with is the signature scheme or the kind of authorization that the option goes with, "" for any.
	with string
	set  func(d *draft, value string)
}

// texts returns the options that are texts, in the order in which they are set.
func (c *OptionChange) texts() []textOption {
	plain := func(field func(*draft) *string) func(*draft, string) {
		return func(d *draft, value string) { *field(d) = value }
	}
	return []textOption{
		{"event-type", c.EventType, "", plain(func(d *draft) *string { return &d.document.EventType })},
		{"filter", c.Filter, "", plain(func(d *draft) *string { return &d.document.Filter })},
		{"transform", c.Transform, "", plain(func(d *draft) *string { return &d.document.Transform })},
		{"shape", c.Shape, "", plain(func(d *draft) *string { return &d.document.Shape })},

		{"scheme", c.Scheme, "", (*draft).setScheme},
		{"signature-header", c.SignatureHeader, "generic", plain(func(d *draft) *string { return &d.document.Signing.Header })},
		{"signature-prefix", c.SignaturePrefix, "generic", plain(func(d *draft) *string { return &d.document.Signing.Prefix })},
		{"signature-encoding", c.SignatureEncoding, "generic", plain(func(d *draft) *string { return &d.document.Signing.Encoding })},
		{"signature-hash", c.SignatureHash, "generic", plain(func(d *draft) *string { return &d.document.Signing.Hash })},
		{"secret", c.Secret, "", (*draft).setSecret},

		{"auth", c.Auth, "", (*draft).setAuth},
		{"auth-token", c.AuthToken, "bearer", plain(func(d *draft) *string { return &d.secrets.Auth })},
		{"auth-user", c.AuthUser, "basic", plain(func(d *draft) *string { return &d.document.Auth.Username })},
		{"auth-password", c.AuthPassword, "basic", plain(func(d *draft) *string { return &d.secrets.Auth })},
		{"auth-token-url", c.AuthTokenURL, "oauth2", plain(func(d *draft) *string { return &d.document.Auth.TokenURL })},
		{"auth-client-id", c.AuthClientID, "oauth2", plain(func(d *draft) *string { return &d.document.Auth.ClientID })},
		{"auth-client-secret", c.AuthClientSecret, "oauth2", plain(func(d *draft) *string { return &d.secrets.Auth })},
		{"auth-audience", c.AuthAudience, "oauth2", plain(func(d *draft) *string { return &d.document.Auth.Audience })},
		{"auth-style", c.AuthStyle, "oauth2", plain(func(d *draft) *string { return &d.document.Auth.Style })},
	}
}

// check finds what is wrong with a change whatever rule it is for.
func (c *OptionChange) check(table rule.Table) error {
	if table == rule.Webfilters && (c.Preset != nil || len(c.Params) > 0) {
		const reason = "`preset` and its parameters are for webhooks, and have no meaning for a webfilter"
		return &Problem{Field: "preset", Reason: reason, Fix: "leave them out"}
	}
	if c.Replace != nil && c.Preset != nil {
		return &Problem{Field: "options", Reason: "`options` and `preset` exclude each other", Fix: "each is all options at once"}
	}
	if c.Preset != nil && *c.Preset == "" {
		const fix = "to take away what one has set, empty that, such as `transform`"
		return &Problem{Field: "preset", Reason: "write the name of a preset", See: SeePresets, Fix: fix}
	}
	if c.Preset != nil {
		if _, err := presetNamed(*c.Preset); err != nil {
			return err
		}
	}
	for _, o := range c.texts() {
		if o.value != nil && !utf8.ValidString(*o.value) { // JSON would hold something else
			return &Problem{Field: o.field, Reason: "the value is not UTF-8"}
		}
	}
	for _, h := range c.Headers {
		if !utf8.ValidString(h.Value) {
			return &Problem{Field: "header", Reason: fmt.Sprintf("the value of %q is not UTF-8", h.Name)}
		}
	}
	return nil
}

// apply makes a change. Secrets that nothing uses any more are dropped at the end.
func (d *draft) apply(c *OptionChange, sealing bool) error {
	if c.Replace != nil {
		if err := d.replace(c.Replace, sealing); err != nil {
			return err
		}
	}
	if err := d.preset(c); err != nil {
		return err
	}
	for _, h := range c.Headers {
		if err := d.setHeader(h.Name, h.Value, sealing); err != nil {
			return err
		}
	}
	for _, o := range c.texts() {
		if o.value == nil {
			continue
		}
		if err := d.goesWith(o.field, o.with); err != nil {
			return err
		}
		o.set(d, *o.value)
	}
	set(&d.document.Timeout, c.Timeout)
	set(&d.document.Concurrency, c.Concurrency)
	set(&d.document.Rate, c.Rate)
	set(&d.document.RetrySchedule, c.RetrySchedule)
	if c.AuthScopes != nil {
		if err := d.goesWith("auth-scope", "oauth2"); err != nil {
			return err
		}
		d.document.Auth.Scopes = *c.AuthScopes
	}
	if c.ClientCert != nil {
		if err := d.setCertificate(*c.ClientCert, c.ClientKey); err != nil {
			return err
		}
	}
	if a := d.document.Auth; a != nil && (c.AuthTokenURL != nil || c.Replace != nil) {
		if err := checkTokenURL(a.TokenURL); err != nil {
			return err
		}
	}
	if s := d.document.Signing; s == nil || s.Scheme == none {
		d.secrets.Signing = nil
	}
	if d.document.Auth == nil {
		d.secrets.Auth = ""
	}
	if d.document.ClientCert == nil {
		d.secrets.ClientCert = ""
	}
	return nil
}

// goesWith refuses an option for a rule whose scheme or authorization is another.
func (d *draft) goesWith(field, with string) error {
	option, has := "auth", ""
	switch {
	case field == "secret" && d.document.Signing != nil && d.document.Signing.Scheme == none:
		return &Problem{Field: field, Reason: "the scheme none signs nothing", Fix: "leave the secret out, or give another `scheme`"}
	case with == "":
		return nil
	case with == "generic":
		option = "scheme"
		if d.document.Signing != nil {
			has = d.document.Signing.Scheme
		}
	case d.document.Auth != nil:
		has = d.document.Auth.Type
	}
	if has == with {
		return nil
	}
	return &Problem{Field: field, Reason: fmt.Sprintf("`%s` goes with `%s` %s", field, option, with), Fix: "add it, or leave this out"}
}

// credential matches names of headers whose values are likely to be secret.
var credential = regexp.MustCompile(`(?i)authorization|cookie|token|key|secret|auth|password|signature|session|credential`)

// setHeader sets a header, or takes it away where there is no value. Values are sealed where that can be done.
func (d *draft) setHeader(name, value string, sealing bool) error {
	d.dropHeader(name)
	switch {
	case value == "":
		return nil
	case sealing:
		put(&d.secrets.Headers, name, value)
	case credential.MatchString(name):
		return &Problem{Reason: fmt.Sprintf("the value of the header %q looks like a secret, and cannot be sealed", name), Fix: needKey}
	default:
		put(&d.document.Headers, name, value)
	}
	return nil
}

// dropHeader takes a header away, however it is spelled.
func (d *draft) dropHeader(name string) {
	for _, headers := range [...]map[string]string{d.document.Headers, d.secrets.Headers} {
		maps.DeleteFunc(headers, func(other, _ string) bool { return strings.EqualFold(other, name) })
	}
}

func put(headers *map[string]string, name, value string) {
	if *headers == nil {
		*headers = make(map[string]string)
	}
	(*headers)[name] = value
}

// setScheme sets the scheme. The secret of another one is not kept: a receiver that checks by the new one has not been told it.
func (d *draft) setScheme(scheme string) {
	switch {
	case scheme == "":
		d.document.Signing = nil
	case d.document.Signing == nil || d.document.Signing.Scheme != scheme:
		d.document.Signing = &rule.SigningOption{Scheme: scheme}
		d.secrets.Signing = nil
	}
}

// setSecret makes a secret the only one.
func (d *draft) setSecret(secret string) {
	if d.document.Signing == nil {
		d.document.Signing = &rule.SigningOption{Scheme: "standard"}
	}
	d.secrets.Signing = nil
	if secret != "" {
		d.secrets.Signing = []rule.SigningSecret{{Secret: secret}}
	}
}

// setAuth sets the kind of authorization. What another kind had is not kept.
func (d *draft) setAuth(kind string) {
	switch {
	case kind == "" || kind == none:
		d.document.Auth = nil
	case d.document.Auth == nil || d.document.Auth.Type != kind:
		d.document.Auth, d.secrets.Auth = &rule.AuthOption{Type: kind}, ""
	}
}

// checkTokenURL refuses credentials in the URL of the authorization server, which is shown as it is.
func checkTokenURL(raw string) error {
	if u, err := url.Parse(raw); err == nil && u.User != nil {
		return &Problem{
			Reason: "the token URL of auth oauth2 has credentials in it, and is shown to whoever lists the rules",
			Fix:    "give them as `auth-client-id` and `auth-client-secret`",
		}
	}
	return nil
}

// setCertificate sets the client certificate, or takes it away.
func (d *draft) setCertificate(chain, key string) error {
	if chain == "" || chain == none {
		d.document.ClientCert = nil
		return nil
	}
	option, err := describe([]byte(chain))
	if err != nil {
		return err
	}
	d.document.ClientCert, d.secrets.ClientCert = option, keyPair([]byte(chain+"\n"+key))
	return nil
}

// describe reads the first certificate of a PEM file.
func describe(chain []byte) (*rule.CertificateOption, error) {
	for block, rest := pem.Decode(chain); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil { // not wrapped: it could hold parts of the file
			break
		}
		if now := time.Now(); now.After(certificate.NotAfter) {
			reason := fmt.Sprintf("the certificate was good until %s only", stamp(certificate.NotAfter))
			return nil, &Problem{Field: "client-cert", Reason: reason, Fix: "give a newer one"}
		}
		sum := sha256.Sum256(certificate.Raw)
		return &rule.CertificateOption{
			Subject: certificate.Subject.String(), NotAfter: certificate.NotAfter.UTC(), SHA256: hex.EncodeToString(sum[:]),
		}, nil
	}
	return nil, &Problem{Field: "client-cert", Reason: "the file holds no certificate", Fix: "give a PEM file"}
}

// keyPair keeps of a PEM file what a connection needs: people write notes between the blocks.
func keyPair(file []byte) string {
	var kept strings.Builder
	for block, rest := pem.Decode(file); block != nil; block, rest = pem.Decode(rest) {
		kept.Write(pem.EncodeToMemory(block))
	}
	return kept.String()
}
