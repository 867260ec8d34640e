package rule

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
)

// vault opens what "sealed with k1" stands before.
type vault struct{}

// Open implements Opener.
func (vault) Open(l Key, field, keyID string, sealed []byte) ([]byte, error) {
	if l != key(1) || field != SecretsField {
		return nil, errors.New("sealed for another place")
	}
	text, ok := strings.CutPrefix(string(sealed), "sealed with "+keyID)
	if !ok || keyID != "k1" {
		return nil, errors.New("the key is not there")
	}
	return []byte(text), nil
}

// sealed returns the sealed form of secrets for vault.
func sealed(t *testing.T, s *Secrets) string {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return "sealed with k1" + string(text)
}

// plainRow is what options are tried on.
func plainRow() Row { return rows(1)[0] }

// What options make of a rule, or why they hold it.
func TestOptions(t *testing.T) {
	t.Parallel()
	const bearer = `{"auth":{"type":"bearer"}}`
	token := &Secrets{Auth: canary}
	for _, c := range []struct {
		name     string
		row      func(*Row)
		document string
		secrets  *Secrets
		change   func(*Option)
		noKeys   bool
		scheme   string           // of the settings
		want     func(*Rule) bool // of a rule that is not held
		hold     string           // a part of why it is
		unread   bool             // held, and what is sent is not known
	}{
		{name: "none", want: func(r *Rule) bool { return r.Access == nil && reflect.DeepEqual(r.Limits, Limits{}) }},
		{name: "empty", document: "{}", want: func(r *Rule) bool { return r.Access == nil && r.Filter == nil && r.Transform == nil }},
		{
			name: "limits", document: `{"timeout":"2s","concurrency":3,"rate":0.5,"retry_schedule":["1s","1h0m0s"]}`,
			want: func(r *Rule) bool {
				return reflect.DeepEqual(r.Limits, Limits{
					Concurrency: 3, Rate: 0.5, Timeout: 2 * time.Second, RetrySchedule: []time.Duration{time.Second, time.Hour},
				})
			},
		},
		{
			name: "widest limits", document: `{"timeout":"10m","concurrency":65536,"rate":1e6,"retry_schedule":["264h"]}`,
			want: func(r *Rule) bool { return r.Limits.Concurrency == 65536 },
		},
		{name: "timeout, short", document: `{"timeout":"99ms"}`, hold: "100ms to 10m0s", unread: true},
		{name: "timeout, long", document: `{"timeout":"601s"}`, hold: "100ms to 10m0s", unread: true},
		{name: "timeout, negative", document: `{"timeout":"-1s"}`, hold: "out of range", unread: true},
		{name: "timeout, no unit", document: `{"timeout":"30"}`, hold: "is not a duration with a unit", unread: true},
		{name: "concurrency", document: `{"concurrency":65537}`, hold: "1 to 65536", unread: true},
		{name: "concurrency, negative", document: `{"concurrency":-1}`, hold: "1 to 65536", unread: true},
		{name: "rate, low", document: `{"rate":0.0009}`, hold: "0.001 to 1000000", unread: true},
		{name: "rate, high", document: `{"rate":1000001}`, hold: "0.001 to 1000000", unread: true},
		{name: "delay", document: `{"retry_schedule":["1s","0s"]}`, hold: "above 0s and up to 264h", unread: true},
		{name: "delay, long", document: `{"retry_schedule":["265h"]}`, hold: "up to 264h", unread: true},
		{
			name: "delays", document: `{"retry_schedule":["1s"` + strings.Repeat(`,"1s"`, 50) + `]}`, hold: "write 50 at most", unread: true,
		},
		{
			name: "CloudEvents", document: `{"shape":"cloudevents"}`,
			want: func(r *Rule) bool {
				return r.Shape == payload.ShapeCloudEvents && r.Format == delivery.FormatCloudEvents
			},
		},
		{
			name: "standard", document: `{"shape":"standard"}`,
			want: func(r *Rule) bool { return r.Shape == payload.ShapeStandard && r.Format == delivery.FormatJSON },
		},
		{
			name: "form", row: func(r *Row) { r.Form = true }, document: `{"shape":"plugin"}`,
			want: func(r *Rule) bool { return r.Format == delivery.FormatForm },
		},
		{
			name: "form and CloudEvents", row: func(r *Row) { r.Form = true }, document: `{"shape":"cloudevents"}`,
			hold: "choose one", unread: true,
		},
		{name: "unknown shape", document: `{"shape":"xml"}`, hold: `unknown shape "xml"`, unread: true},
		{
			name: "expressions", document: `{"filter":"$params.a == 1","transform":"{a: .}","params":{"a":1}}`,
			want: func(r *Rule) bool { return r.Filter != nil && r.Transform != nil },
		},
		{name: "filter", document: `{"filter":"("}`, hold: "the filter: ", unread: true},
		{name: "transform", document: `{"transform":"nothing_of_the_kind"}`, hold: "the transform: ", unread: true},
		{name: "params", document: `{"params":[1]}`, hold: "params is not a JSON object", unread: true},
		{name: "line breaks", document: "{\"filter\":\"(\\n\\u001b[31m\\n\"}", hold: "the filter: ", unread: true},

		{name: "of a later version", document: `{"colour":"blue"}`, hold: `unknown field "colour"`, unread: true},
		{name: "more than one", document: `{}{}`, hold: "more follows", unread: true},
		{name: "a brace too many", document: `{}}`, hold: "more follows", unread: true},
		{name: "not JSON", document: `filter: true`, hold: "not as this version knows them", unread: true},
		{name: "an array", document: `[]`, hold: "not as this version knows them", unread: true},

		{
			name: "event type", row: func(r *Row) { r.Event = "" }, document: `{"event_type":"com.example.thing.v1"}`,
			want: func(r *Rule) bool { return r.EventType == "com.example.thing.v1" },
		},
		{
			name: "event type, of a later version", row: func(r *Row) { r.Event = "" },
			document: `{"event_type":"com.example.thing.v1","colour":"blue"}`, hold: "unknown field", unread: true,
		},

		{
			name: "secrets", document: bearer, secrets: token,
			want: func(r *Rule) bool { return r.Access.Authorization == "Bearer "+canary },
		},
		{
			name: "no keys", document: bearer, secrets: token, noKeys: true,
			hold: `WEBHOOK_DISPATCHER_SECRETS_KEY is not set, and they need its key "k1"`,
		},
		{
			name: "another key", document: bearer, secrets: token, change: func(o *Option) { o.KeyID = "k2" },
			hold: "its secrets cannot be opened: the key is not there",
		},
		{
			name: "another place", document: bearer, secrets: token, row: func(r *Row) { r.ID = 2 },
			hold: "its secrets cannot be opened: sealed for another place",
		},
		{
			name: "secrets of a later version", document: bearer, secrets: token,
			change: func(o *Option) { o.Sealed = `sealed with k1{"` + canary + `":1}` }, hold: "the secrets are not as this version knows them",
		},
		{name: "no secrets", document: bearer, hold: "auth bearer has no secret"},

		{
			name: "auth, where the settings' scheme needs the header", document: bearer, secrets: token, scheme: "sig-hmac-sha256",
			hold: "WEBHOOK_DISPATCHER_SIGNING_SCHEME=sig-hmac-sha256 puts its signature: give the rule a scheme of its own, such as --scheme none",
		},
		{
			name: "the header, where the settings' scheme needs it", document: `{"headers":{"authorization":"Token t"}}`, scheme: "sig-hmac-sha256",
			hold: "WEBHOOK_DISPATCHER_SIGNING_SCHEME=sig-hmac-sha256",
		},
		{
			name: "a token, where the settings' scheme needs the header", secrets: token, scheme: "sig-hmac-sha256",
			document: `{"auth":{"type":"oauth2","token_url":"https://h/","client_id":"i"}}`,
			hold:     "WEBHOOK_DISPATCHER_SIGNING_SCHEME=sig-hmac-sha256",
		},
		{
			name: "another header, beside the settings' scheme", document: `{"headers":{"X-A":"b"}}`, scheme: "sig-hmac-sha256",
			want: func(r *Rule) bool { return r.Access.Header["X-A"] == "b" },
		},
		{
			name: "auth, and the settings' scheme has a header of its own", document: bearer, secrets: token, scheme: "standard",
			want: func(r *Rule) bool { return r.Access.Authorization == "Bearer "+canary },
		},
		{
			name: "auth, and not signed", document: `{"auth":{"type":"bearer"},"signing":{"scheme":"none"}}`, secrets: token,
			scheme: "sig-hmac-sha256", want: func(r *Rule) bool { return r.Access.Authorization == "Bearer "+canary },
		},
		{
			name: "auth, and a scheme of its own", document: `{"auth":{"type":"bearer"},"signing":{"scheme":"standard"}}`, scheme: "sig-hmac-sha256",
			secrets: &Secrets{Auth: canary, Signing: []SigningSecret{{Secret: whsec1}}},
			want:    func(r *Rule) bool { return r.Access.Authorization == "Bearer "+canary && len(r.Access.Signings) == 1 },
		},
		{
			name: "the URL was changed", document: bearer, secrets: token, row: func(r *Row) { r.URL = "https://evil.example/" },
			hold: "its URL was changed",
		},
		{
			name: "the URL's spaces were", document: bearer, secrets: token, row: func(r *Row) { r.URL = " \t" + r.URL },
			want: func(r *Rule) bool { return r.Access != nil },
		},
		{
			name: "the URL was changed, and there are no secrets", document: `{"headers":{"X-A":"b"}}`,
			row: func(r *Row) { r.URL = "https://other.example/" }, want: func(r *Rule) bool { return r.Access.Header["X-A"] == "b" },
		},
		{
			name: "credentials in the URL, too", document: bearer, secrets: token,
			row:    func(r *Row) { r.URL = "https://u:" + canary + "@h/" },
			change: func(o *Option) { o.URLSum = URLSum("https://u:" + canary + "@h/") },
			hold:   "its URL has credentials in it",
		},
		{
			name: "an at sign in the URL's path", document: bearer, secrets: token,
			row: func(r *Row) { r.URL = "https://h/@x" }, change: func(o *Option) { o.URLSum = URLSum("https://h/@x") },
			want: func(r *Rule) bool { return r.Access != nil },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			row := plainRow()
			option := Option{Key: Key{Webhooks, row.ID}, RuleCreated: row.Created, Document: c.document, URLSum: URLSum(row.URL)}
			if c.secrets != nil {
				option.Sealed, option.KeyID = sealed(t, c.secrets), "k1"
			}
			if c.change != nil {
				c.change(&option)
			}
			if c.row != nil {
				c.row(&row)
				option.Key.ID = row.ID
			}
			all := compiler(t)
			all.Scheme = c.scheme
			if !c.noKeys {
				all.Opener = vault{}
			}
			s := NewSnapshot(Tables{Webhooks: []Row{row}, Options: []Option{option}}, all)
			e := s.Entries(Webhooks)[0]
			r, status := s.Lookup(key(row.ID))
			if r == nil {
				t.Fatalf("the row is faulty: %s", e.Fault)
			}
			if c.hold == "" {
				if status != Active || e.Hold != "" || r.Unread || !c.want(r) {
					t.Errorf("%v, held: %q, unread: %v, rule %+v", status, e.Hold, r.Unread, r)
				}
				return
			}
			// Held: its events are kept, and nothing is sent.
			if status != Paused || !s.Wants(r.EventType, time.Now(), time.Time{}) || s.Active(key(row.ID)) != nil || !s.Paused(key(row.ID)) {
				t.Errorf("status %v of a rule that must be held", status)
			}
			if !strings.Contains(e.Hold, c.hold) || r.Unread != c.unread || r.Access != nil {
				t.Errorf("held: %q, unread: %v, access %v; want %q, %v and none", e.Hold, r.Unread, r.Access, c.hold, c.unread)
			}
			if strings.ContainsAny(e.Hold, "\n\r\x1b") || strings.Contains(e.Hold, canary) || e.Fault != "" || !e.PausedAt().IsZero() {
				t.Errorf("held: %q, fault %q, paused at %s", e.Hold, e.Fault, e.PausedAt())
			}
		})
	}
}

// Rows whose event cannot be told are faulty.
func TestEventTypeOption(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ event, document, eventType, fault string }{
		{"", `{"event_type":"org.openedx.learning.badge.awarded.v1"}`, "org.openedx.learning.badge.awarded.v1", ""},
		{"  ", `{"event_type":"com.example.v1"}`, "com.example.v1", ""},
		{"BADGE_AWARDED", "{}", "org.openedx.learning.badge.awarded.v1", ""},
		{"BADGE_AWARDED", `{"event_type":"org.openedx.learning.badge.awarded.v1"}`, "", "leave one of the two empty"},
		{"", "{}", "", "the event is empty"},
		{"", "nonsense", "", "not as this version knows them"},
		{"", `{"event_type":"BADGE_AWARDED"}`, "", `"BADGE_AWARDED" is not an event type`},
		{"", `{"event_type":"a..b"}`, "", "is not an event type"},
		{"", `{"event_type":"a.` + strings.Repeat("b", delivery.MaxText) + `"}`, "", "is not an event type"},
		{"", `{"event_type":"org.openedx.content_authoring.course.certificate_config.changed.v1"}`, "", "never comes"},
	} {
		row := plainRow()
		row.Event = c.event
		option := &Option{Key: Key{Webhooks, 1}, RuleCreated: row.Created, Document: c.document}
		r, hold, err := compileStored(compiler(t), row, option)
		if c.fault == "" {
			if err != nil || hold != "" || r.EventType != c.eventType {
				t.Errorf("%q, %s: %+v, held: %q, error %v", c.event, c.document, r, hold, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%q, %s: error %v, want one with %q", c.event, c.document, err, c.fault)
		}
	}
}

// A rule whose URL is changed is held until the URL is as it was, or is confirmed; its options stay as they are.
func TestURLChangedAndBack(t *testing.T) {
	t.Parallel()
	all := compiler(t)
	all.Opener = vault{}
	row := plainRow()
	option := Option{
		Key: Key{Webhooks, row.ID}, RuleCreated: row.Created, URLSum: URLSum(row.URL), KeyID: "k1",
		Document: `{"auth":{"type":"bearer"}}`, Sealed: sealed(t, &Secrets{Auth: canary}),
	}
	s := NewSnapshot(Tables{Webhooks: []Row{row}, Options: []Option{option}}, all)
	step := func(what string, want Status) {
		t.Helper()
		s = s.next(Tables{Webhooks: []Row{row}, Options: []Option{option}}, all)
		if _, status := s.Lookup(key(1)); status != want {
			t.Errorf("%s: %v, want %v", what, status, want)
		}
	}
	step("as given", Active)
	before := row.URL
	row.URL = "https://other.example/"
	step("changed", Paused)
	hold := s.Entries(Webhooks)[0].Hold
	if r, _ := s.Lookup(key(1)); r.Target != "https://other.example" || !strings.HasSuffix(hold, " run rules set 1 --confirm-url") {
		t.Errorf("target %s, held: %q", r.Target, hold)
	}
	row.URL = before
	step("back", Active)
	row.URL = "https://other.example/"
	step("changed again", Paused)
	option.URLSum = URLSum(row.URL)
	step("confirmed", Active)
	// Options of a rule that had the same id before are no concern of this one.
	row.Created = row.Created.Add(time.Second)
	step("another rule", Active)
	if r, _ := s.Lookup(key(1)); r.Access != nil || s.Entries(Webhooks)[0].Option != nil {
		t.Error("a rule has got the secrets of an earlier one")
	}
}

func FuzzParseDocument(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "null", `{"filter":".a","timeout":"1s","retry_schedule":["5s"],"signing":{"scheme":"generic","header":"X"}}`,
		`{"event_type":"a.b","earlier":[{"from":"2026-06-01T10:00:00Z","until":"2026-06-01T11:00:00Z"}],"params":{"a":1e400}}`, `{"x":1}`, `{}}`,
		`{"auth":{"type":"oauth2","token_url":"https://h/","client_id":"i"},"headers":{"A":"b"},"client_cert":{"subject":""}}`,
		"{\"filter\":\"\\n\"}",
	} {
		f.Add(seed)
	}
	all := compiler(f)
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseDocument(text)
		if err == nil {
			again, err := json.Marshal(&d)
			if err != nil {
				t.Fatalf("%s cannot be written: %v", text, err)
			}
			if _, err := ParseDocument(string(again)); err != nil {
				t.Errorf("%s is written as %s, and cannot be read: %v", text, again, err)
			}
		}
		row := plainRow()
		r, hold, fault := compileStored(all, row, &Option{Key: Key{Webhooks, 1}, RuleCreated: row.Created, Document: text})
		if fault != nil {
			hold = fault.Error()
		} else if err != nil && (hold == "" || !r.Unread) {
			t.Errorf("%s: options that cannot be read do not hold the rule", text)
		}
		if strings.ContainsAny(hold, "\r\n\x00") {
			t.Errorf("%s: more than one line: %q", text, hold)
		}
	})
}

// A rule that was paused because its expressions fail is spared them; one that was paused for its endpoint is not, for its filter still
// says what is to wait.
func TestResting(t *testing.T) {
	t.Parallel()
	for reason, want := range map[delivery.Reason]bool{delivery.ReasonExpression: true, delivery.ReasonGone: false, "": false} {
		for _, paused := range []bool{true, false} {
			option := optionOfRow1(Option{Enabled: true, Document: `{"filter":"true"}`, PauseReason: reason})[0]
			if paused {
				option.PausedAt = at(1)
			}
			r, hold, err := compileStored(compiler(t), rows(1)[0], &option)
			if err != nil || hold != "" || r.Resting != (want && paused) {
				t.Errorf("%q, paused %v: resting %v, %q, %v", reason, paused, r.Resting, hold, err)
			}
		}
	}
}
