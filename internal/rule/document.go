package rule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Document is the options of a rule as people write and read them: the JSON of the options column, of `rules show --json` and of
// `rules add|set --options`. What is secret is in Secrets instead. Zero values mean the defaults.
type Document struct {
	// EventType is the dotted type that the rule wants, for events that have no constant, or one that does not fit the row's column.
	EventType string          `json:"event_type,omitempty"`
	Preset    string          `json:"preset,omitempty"` // the name of the preset that the rule was made by
	Params    json.RawMessage `json:"params,omitempty"` // an object that expressions see as $params
	// Filter and Transform are jq expressions, "" for none; see package expression.
	Filter    string `json:"filter,omitempty"`
	Transform string `json:"transform,omitempty"`
	Shape     string `json:"shape,omitempty"` // plugin, cloudevents or standard
	// Headers are sent with each request, by name. Those whose values are secret are in Secrets.
	Headers map[string]string `json:"headers,omitempty"`
	// Signing says how requests are signed; nil: as the settings say for all rules.
	Signing *SigningOption `json:"signing,omitempty"`
	// Auth is what proves to the endpoint who sends; nil: nothing but what the URL holds.
	Auth *AuthOption `json:"auth,omitempty"`
	// ClientCert describes the client certificate, whose key is in Secrets; nil: none.
	ClientCert    *CertificateOption `json:"client_cert,omitempty"`
	Timeout       Duration           `json:"timeout,omitzero"`         // of the whole exchange, 100ms to 10m
	Concurrency   int                `json:"concurrency,omitempty"`    // requests under way, 1 to 65536
	Rate          float64            `json:"rate,omitempty"`           // requests that begin in a second, 0.001 to 1000000
	RetrySchedule []Duration         `json:"retry_schedule,omitempty"` // a delay for each retry
	// Earlier are the ownership periods of former adoptions, the oldest first. They are kept by the program itself.
	Earlier []OwnershipPeriod `json:"earlier,omitempty"`
}

// SigningOption is a scheme: none, standard, sig-hmac-sha256, or generic with the fields of signature.HMAC.
type SigningOption struct {
	Scheme   string `json:"scheme"`
	Header   string `json:"header,omitempty"`
	Prefix   string `json:"prefix,omitempty"`
	Encoding string `json:"encoding,omitempty"`
	Hash     string `json:"hash,omitempty"`
}

// AuthOption says how requests are authorized, without the secret part: bearer, basic with a username, or oauth2 (client credentials).
type AuthOption struct {
	Type     string   `json:"type"`
	Username string   `json:"username,omitempty"`
	TokenURL string   `json:"token_url,omitempty"`
	ClientID string   `json:"client_id,omitempty"`
	Scopes   []string `json:"scopes,omitempty"`
	Audience string   `json:"audience,omitempty"`
	// Style is how the token call says the client's credentials: header (HTTP Basic, the default) or body.
	Style string `json:"style,omitempty"`
}

// CertificateOption tells people which certificate it is.
type CertificateOption struct {
	Subject  string    `json:"subject"`
	NotAfter time.Time `json:"not_after"`
	SHA256   string    `json:"sha256"` // of the certificate, hexadecimal
}

// Secrets are the secret options of a rule. They are stored sealed (package secret), and never shown.
type Secrets struct {
	Signing    []SigningSecret   `json:"signing,omitempty"`     // the newest first
	Auth       string            `json:"auth,omitempty"`        // the bearer token, the password or the client's secret
	Headers    map[string]string `json:"headers,omitempty"`     // values, by name
	ClientCert string            `json:"client_cert,omitempty"` // a PEM file with the certificate, its chain and its key
}

// SigningSecret is a secret that signs until a moment; the zero moment: for good.
type SigningSecret struct {
	Secret string    `json:"secret"`
	Until  time.Time `json:"until,omitzero"`
}

// String keeps secrets out of logs.
func (s Secrets) String() string { return "[secrets]" }

// GoString is String.
func (s Secrets) GoString() string { return s.String() }

// Empty reports whether there is no secret at all.
func (s *Secrets) Empty() bool {
	return len(s.Signing) == 0 && s.Auth == "" && len(s.Headers) == 0 && s.ClientCert == ""
}

// OwnershipPeriod is the time from an adoption of a rule to its release. The rule takes events from From on and before Until.
type OwnershipPeriod struct {
	From  time.Time `json:"from"`
	Until time.Time `json:"until"` // zero: still open
}

// Duration is a time.Duration that JSON has as text, such as "1m30s".
type Duration time.Duration

// MarshalText writes the duration as time.Duration does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads a duration with a unit.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a duration with a unit, such as 30s, 5m or 2h", text)
	}
	*d = Duration(parsed)
	return nil
}

// ParseDocument reads the JSON of options. Unknown fields are an error: to ignore a later version's filter would be to send too much.
func ParseDocument(text string) (Document, error) {
	var d Document
	if text == "" {
		return d, nil
	}
	if err := DecodeStrict([]byte(text), &d); err != nil {
		return Document{}, fmt.Errorf("the options are not as this version knows them: %w", err)
	}
	return d, nil
}

// matching returns what options that ParseDocument refuses say of the events that the rule is for, as far as that can be read: a
// version before the one that wrote them may not send, but what it does not keep is lost.
func matching(text string) Document {
	var d struct {
		EventType string            `json:"event_type"`
		Earlier   []OwnershipPeriod `json:"earlier"`
	}
	if json.Unmarshal([]byte(text), &d) != nil {
		return Document{}
	}
	return Document{EventType: d.EventType, Earlier: d.Earlier}
}

// ParseSecrets reads the JSON of secrets. Its errors hold nothing of it.
func ParseSecrets(text []byte) (Secrets, error) {
	var s Secrets
	if len(text) == 0 {
		return s, nil
	}
	if err := DecodeStrict(text, &s); err != nil {
		return Secrets{}, errors.New("the secrets are not as this version knows them")
	}
	return s, nil
}

// DecodeStrict reads one JSON value. Fields that into does not have are an error, as is more text.
func DecodeStrict(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more follows after the object")
	}
	return nil
}
