package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// ruleView is a rule as commands show it.
type ruleView struct {
	ID        int32  `json:"id"`
	Kind      string `json:"kind"`
	Event     string `json:"event"`
	EventType string `json:"event_type"` // "" for a faulty rule
	URL       string `json:"url"`        // scheme and host unless whole URLs were asked for, "" for a faulty rule then
	Format    string `json:"format"`
	Enabled   bool   `json:"enabled"` // an adopted rule's own switch, else that of its row
	Status    string `json:"status"`  // active, released, paused, disabled, foreign or faulty
	// PausedAt is since when the rule is paused, null where it is not. A disabled or faulty rule may be paused as well.
	PausedAt    *time.Time `json:"paused_at"`
	PauseReason string     `json:"pause_reason"` // "" where it is not paused, or nobody has said
	Fault       string     `json:"fault"`        // "" for a good rule
	Hold        string     `json:"hold"`         // why nothing is sent to it though nobody has paused it, or ""
	// PluginEnabled is the switch of the row, which the plugin goes by. AdoptedAt and ReleasedAt are null where the rule never was.
	PluginEnabled bool            `json:"plugin_enabled"`
	AdoptedAt     *time.Time      `json:"adopted_at"`
	ReleasedAt    *time.Time      `json:"released_at"`
	Options       json.RawMessage `json:"options"` // what rules add --options takes; null where they cannot be read
	Secrets       *secretsView    `json:"secrets"` // null for none
	Created       time.Time       `json:"created"`
	Modified      time.Time       `json:"modified"`
	*filterView                   // of webfilters alone

	cure string // what has to be done before the rule's pause is ended
}

// secretsView shows of secrets which they are.
type secretsView struct {
	KeyID  string `json:"key_id"`
	Opened bool   `json:"opened"` // false: what follows is not known here
	// Signing, Auth and Headers hold the beginnings of secrets; the newest secret that signs is the first.
	Signing    []signingView     `json:"signing,omitempty"`
	Auth       string            `json:"auth,omitempty"`
	Headers    map[string]string `json:"headers,omitempty"`
	ClientCert bool              `json:"client_cert,omitempty"`
}

type signingView struct {
	Secret string     `json:"secret"`
	Until  *time.Time `json:"until"` // null: for good
}

// Of a secret at least this long so much may be seen.
const (
	minPeek = 16
	peek    = 4
)

// begins are beginnings that all secrets of a kind have.
var begins = [...]string{"whsec_", "whsk_", "Bearer ", "Basic "}

// beginning returns what may be seen of a secret.
func beginning(secret string) string {
	shown := ""
	for _, known := range begins {
		if strings.HasPrefix(secret, known) {
			shown = known
		}
	}
	if rest := []rune(secret[len(shown):]); len(rest) >= minPeek {
		shown += string(rest[:peek])
	}
	return shown + "…"
}

func viewSecrets(o *rule.Option, opener rule.Opener) *secretsView {
	if o == nil || o.Sealed == "" {
		return nil
	}
	v := &secretsView{KeyID: o.KeyID}
	secrets, err := openSecrets(o, opener)
	if err != nil {
		return v
	}
	v.Opened, v.ClientCert = true, secrets.ClientCert != ""
	for _, s := range secrets.Signing {
		v.Signing = append(v.Signing, signingView{beginning(s.Secret), orNull(s.Until)})
	}
	if secrets.Auth != "" {
		v.Auth = beginning(secrets.Auth)
	}
	for name, value := range secrets.Headers {
		put(&v.Headers, name, beginning(value))
	}
	return v
}

// String says it in one line.
func (v *secretsView) String() string {
	if !v.Opened {
		return fmt.Sprintf("sealed with key %s", v.KeyID)
	}
	var parts []string
	for _, s := range v.Signing {
		part := "signing " + s.Secret
		if s.Until != nil {
			part += " until " + moment(*s.Until)
		}
		parts = append(parts, part)
	}
	if v.Auth != "" {
		parts = append(parts, "auth "+v.Auth)
	}
	for _, name := range slices.Sorted(maps.Keys(v.Headers)) {
		parts = append(parts, fmt.Sprintf("header %s: %s", name, v.Headers[name]))
	}
	if v.ClientCert {
		parts = append(parts, "client certificate")
	}
	return fmt.Sprintf("%s (sealed with key %s)", strings.Join(parts, ", "), v.KeyID)
}

// viewOptions returns the options as JSON, null where they are none.
func viewOptions(o *rule.Option) json.RawMessage {
	if o == nil || o.Document == "" {
		return json.RawMessage("{}")
	}
	if document, err := rule.ParseDocument(o.Document); err == nil {
		if shown, err := encode(&document); err == nil {
			return json.RawMessage(cmp.Or(shown, "{}"))
		}
	}
	if !json.Valid([]byte(o.Document)) {
		return json.RawMessage("null")
	}
	return json.RawMessage(o.Document) // of a later version
}

func (r *ruleSet) view(e *rule.Entry, showURL bool) ruleView {
	v := ruleView{
		ID: e.Row.ID, Kind: e.Key.Table.String(), Event: e.Row.Event, Format: "json", Enabled: e.Row.Enabled, Status: e.Status().String(),
		PausedAt: orNull(e.PausedAt()), Fault: e.Fault, Hold: shownHold(e), PluginEnabled: e.Row.Enabled, Options: viewOptions(e.Option),
		Secrets: viewSecrets(e.Option, r.compiler.Opener), Created: e.Row.Created, Modified: e.Row.Modified, filterView: viewFilter(e),
	}
	if v.PausedAt != nil {
		v.PauseReason, v.cure = string(e.Option.PauseReason), cure(e)
	}
	if e.Row.Form {
		v.Format = "form"
	}
	if o := e.Option; o != nil {
		v.AdoptedAt, v.ReleasedAt = orNull(o.AdoptedAt), orNull(o.ReleasedAt)
		if o.Adopted() {
			v.Enabled = o.Enabled
		}
	}
	if e.Rule != nil {
		v.EventType, v.URL = e.Rule.EventType, e.Rule.Target
	}
	if showURL {
		v.URL = e.Row.URL
	}
	return v
}

// wrong says what is wrong with the rule, as a list shows it.
func (v *ruleView) wrong() string {
	if v.Fault != "" {
		return v.Fault
	}
	return v.Hold
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
