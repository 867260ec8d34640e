package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// RuleView is a rule as all faces show it.
type RuleView struct {
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
	PluginEnabled  bool            `json:"plugin_enabled"`
	AdoptedAt      *time.Time      `json:"adopted_at"`
	ReleasedAt     *time.Time      `json:"released_at"`
	Options        json.RawMessage `json:"options"` // as OptionChange.Replace has them; null where they cannot be read
	Secrets        *SecretsView    `json:"secrets"` // null for none
	Created        time.Time       `json:"created"`
	Modified       time.Time       `json:"modified"`
	*WebfilterView                 // of webfilters alone

	// Cure is what has to be done before the rule's pause is ended.
	Cure string `json:"-"`
}

// SecretsView shows of secrets which they are.
type SecretsView struct {
	KeyID  string `json:"key_id"`
	Opened bool   `json:"opened"` // false: what follows is not known here
	// Signing, Auth and Headers hold the beginnings of secrets; the newest secret that signs is the first.
	Signing    []SigningView     `json:"signing,omitempty"`
	Auth       string            `json:"auth,omitempty"`
	Headers    map[string]string `json:"headers,omitempty"`
	ClientCert bool              `json:"client_cert,omitempty"`
}

// SigningView is how a rule signs, with its secrets hidden.
type SigningView struct {
	Secret string     `json:"secret"`
	Until  *time.Time `json:"until"` // null: for good
}

// Of a secret that is at least minPeek characters long, peek may be seen.
const minPeek, peek = 16, 4

// begins are beginnings that all secrets of a kind have.
var begins = [...]string{"whsec_", "whsk_", "Bearer ", "Basic "}

// Beginning returns what may be seen of a secret.
func Beginning(secret string) string {
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

func viewSecrets(o *rule.Option, opener rule.Opener) *SecretsView {
	if o == nil || o.Sealed == "" {
		return nil
	}
	v := &SecretsView{KeyID: o.KeyID}
	secrets, err := o.OpenSecrets(opener)
	if err != nil {
		return v
	}
	v.Opened, v.ClientCert = true, secrets.ClientCert != ""
	for _, s := range secrets.Signing {
		v.Signing = append(v.Signing, SigningView{Beginning(s.Secret), orNull(s.Until)})
	}
	if secrets.Auth != "" {
		v.Auth = Beginning(secrets.Auth)
	}
	for name, value := range secrets.Headers {
		put(&v.Headers, name, Beginning(value))
	}
	return v
}

// viewOptions returns the options as JSON, null where they cannot be read.
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

// view returns what is shown of a rule.
func (a *Admin) view(e *rule.Entry, showURL bool) RuleView {
	v := RuleView{
		ID: e.Row.ID, Kind: e.Key.Table.String(), Event: e.Row.Event, Format: "json", Enabled: e.Row.Enabled, Status: e.Status().String(),
		PausedAt: orNull(e.PausedAt()), Fault: e.Fault, Hold: e.Hold, PluginEnabled: e.Row.Enabled, Options: viewOptions(e.Option),
		Secrets: viewSecrets(e.Option, a.o.Compiler.Opener), Created: e.Row.Created, Modified: e.Row.Modified, WebfilterView: viewWebfilter(e),
	}
	if v.PausedAt != nil {
		v.PauseReason, v.Cure = string(e.Option.PauseReason), cure(e)
	}
	if e.Row.Form {
		v.Format = "form"
	}
	if e.AsksUs() { // it is as it should be
		v.Hold = ""
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

// ListRules returns the rules of a table by id. showURLs shows whole URLs, which often hold secrets.
func (a *Admin) ListRules(ctx context.Context, table rule.Table, showURLs bool) ([]RuleView, error) {
	rules, err := a.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return views(rules.Entries(table), func(e *rule.Entry) RuleView { return a.view(e, showURLs) }), nil
}

// ShowRule returns one rule.
func (a *Admin) ShowRule(ctx context.Context, key rule.Key, showURLs bool) (*RuleView, error) {
	e, err := a.entry(ctx, key)
	if err != nil {
		return nil, err
	}
	view := a.view(e, showURLs)
	return &view, nil
}

// WebfilterView is what is shown of a webfilter beside what all rules have.
type WebfilterView struct {
	InRequest                  bool   `json:"in_request"` // else it is called before the webhooks of an event; false for a faulty row
	Description                string `json:"description"`
	DisableFiltering           bool   `json:"disable_filtering"`
	DisableHalt                bool   `json:"disable_halt"`
	HaltOn4xx                  bool   `json:"halt_on_4xx"`
	RedirectOn4xx              string `json:"redirect_on_4xx"` // learners are sent there, so it is no secret
	HaltOn5xx                  bool   `json:"halt_on_5xx"`
	RedirectOn5xx              string `json:"redirect_on_5xx"`
	HaltOnRequestException     bool   `json:"halt_on_request_exception"`
	RedirectOnRequestException string `json:"redirect_on_request_exception"`
}

// viewWebfilter returns the view of a webfilter, nil for a webhook.
func viewWebfilter(e *rule.Entry) *WebfilterView {
	row := e.WebfilterRow
	if row == nil {
		return nil
	}
	return &WebfilterView{
		InRequest: inRequest(e), Description: row.Description, DisableFiltering: row.DisableFiltering, DisableHalt: row.DisableHalt,
		HaltOn4xx: row.HaltOn4xx, RedirectOn4xx: row.RedirectOn4xx, HaltOn5xx: row.HaltOn5xx, RedirectOn5xx: row.RedirectOn5xx,
		HaltOnRequestException: row.HaltOnRequestException, RedirectOnRequestException: row.RedirectOnRequestException,
	}
}
