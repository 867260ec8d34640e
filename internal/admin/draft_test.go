package admin

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

func TestRotate(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, time.March, 1, 10, 0, 0, 0, time.UTC)
	day := now.Add(24 * time.Hour)
	at := func(secret string, until time.Time) rule.SigningSecret {
		return rule.SigningSecret{Secret: secret, Until: until}
	}
	for _, c := range []struct {
		name         string
		before, want []rule.SigningSecret
		keep         time.Duration
		err          string
	}{
		{
			name: "one before", before: []rule.SigningSecret{at("old", time.Time{})}, keep: 24 * time.Hour,
			want: []rule.SigningSecret{at("new", time.Time{}), at("old", day)},
		},
		{
			name: "an end stays as it is", before: []rule.SigningSecret{at("old", time.Time{}), at("older", day.Add(time.Hour))}, keep: time.Hour,
			want: []rule.SigningSecret{at("new", time.Time{}), at("old", now.Add(time.Hour)), at("older", day.Add(time.Hour))},
		},
		{
			name:   "what is over is dropped",
			before: []rule.SigningSecret{at("old", time.Time{}), at("over", now), at("past", now.Add(-time.Hour)), at("older", now.Add(1))},
			keep:   24 * time.Hour,
			want:   []rule.SigningSecret{at("new", time.Time{}), at("old", day), at("older", now.Add(1))},
		},
		{
			name: "none kept", before: []rule.SigningSecret{at("old", time.Time{})},
			want: []rule.SigningSecret{at("new", time.Time{})},
		},
		{
			name: "five at most", keep: 24 * time.Hour,
			before: []rule.SigningSecret{at("a", time.Time{}), at("b", day), at("c", day), at("d", day), at("e", day), at("f", day)},
			want:   []rule.SigningSecret{at("new", time.Time{}), at("a", day), at("b", day), at("c", day), at("d", day)},
		},
		{
			name: "back to an earlier one", before: []rule.SigningSecret{at("old", time.Time{}), at("new", day)}, keep: 24 * time.Hour,
			want: []rule.SigningSecret{at("new", time.Time{}), at("old", day)},
		},
		{name: "the same", before: []rule.SigningSecret{at("new", time.Time{})}, err: "the secret is the rule's already"},
		{name: "nothing to rotate", err: "the rule has no secret of its own"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := draft{document: rule.Document{Signing: &rule.SigningOption{Scheme: "standard"}}, secrets: rule.Secrets{Signing: c.before}}
			before := slices.Clone(c.before)
			err := d.rotate(&Rotation{Secret: "new", Keep: c.keep}, now)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("rotate = %v, want %q in it", err, c.err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(d.secrets.Signing, c.want) {
				t.Errorf("secrets are %v (%v), want %v", d.secrets.Signing, err, c.want)
			}
			if !reflect.DeepEqual(c.before, before) {
				t.Error("the secrets before were changed: a second run would see other ones")
			}
		})
	}
}

// The receiver has the secret that was replaced: a later end of another one says nothing of how long that still signs.
func TestRotatedSaysWhenTheReplacedSecretEnds(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, time.March, 1, 10, 0, 0, 0, time.UTC)
	hour, late := now.Add(time.Hour), now.Add(48*time.Hour)
	before := []rule.SigningSecret{{Secret: "old"}, {Secret: "older", Until: late}}
	for _, c := range []struct {
		name   string
		before []rule.SigningSecret
		keep   time.Duration
		scheme string
		want   RotatedView
	}{
		{"one before", before[:1], time.Hour, "standard", RotatedView{Scheme: "standard", Until: hour}},
		{
			"an earlier one ends later", before, time.Hour, "standard",
			RotatedView{Scheme: "standard", Until: hour, Earlier: 1, EarlierUntil: late},
		},
		{"none kept", before[:1], 0, "standard", RotatedView{Scheme: "standard"}},
		{"an earlier one is left", before, 0, "standard", RotatedView{Scheme: "standard", Earlier: 1, EarlierUntil: late}},
		{"one signature", before, time.Hour, "generic", RotatedView{Scheme: "generic", Until: hour, Earlier: 1, EarlierUntil: late}},
	} {
		d := draft{document: rule.Document{Signing: &rule.SigningOption{Scheme: c.scheme}}, secrets: rule.Secrets{Signing: c.before}}
		r := &Rotation{Secret: "new", Keep: c.keep}
		if err := d.rotate(r, now); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got := d.rotated(r, now); *got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, *got, c.want)
		}
	}
}

func TestBeginningOfSecrets(t *testing.T) {
	t.Parallel()
	for secret, want := range map[string]string{
		"":                                   "…",
		"0123456789abcde":                    "…", // one short
		"0123456789abcdef":                   "0123…",
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2Li": "whsec_MfKQ…",
		"whsec_0123456789abcde":              "whsec_…",
		"whsk_0123456789abcdef":              "whsk_0123…",
		"Bearer 0123456789abcdef":            "Bearer 0123…",
		"Bearer 0123":                        "Bearer …",
		"ääääääääääääääää":                   "ääää…",
	} {
		if got := Beginning(secret); got != want {
			t.Errorf("Beginning(%q) = %q, want %q", secret, got, want)
		}
	}
}

// Without a key, values of headers that look like credentials are refused; with one all values are sealed.
func TestHeadersOfARule(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"Authorization", "Cookie", "X-Auth-User", "X-Api-Key", "x-access-token", "X-CLIENT-SECRET", "X-Password", "X-Hub-Signature", "X-Session",
		"X-Credential-Id", "Set-Cookie2",
	} {
		var d draft
		err := d.setHeader(name, "c4n4ry", false)
		if err == nil || !strings.Contains(err.Error(), "WEBHOOK_DISPATCHER_SECRETS_KEY") || strings.Contains(err.Error(), "c4n4ry") {
			t.Errorf("%s without a key: %v", name, err)
		}
	}
	d := draft{document: rule.Document{Headers: map[string]string{"X-Tenant": "a", "X-Other": "b"}}}
	for _, h := range []struct {
		name, value string
		sealing     bool
	}{{"x-tenant", "c", true}, {"X-OTHER", "", false}, {"X-New", "d", false}, {"X-Tenant", "e", true}} {
		if err := d.setHeader(h.name, h.value, h.sealing); err != nil {
			t.Fatal(err)
		}
	}
	want := draft{
		document: rule.Document{Headers: map[string]string{"X-New": "d"}}, secrets: rule.Secrets{Headers: map[string]string{"X-Tenant": "e"}},
	}
	if !reflect.DeepEqual(d, want) {
		t.Errorf("the headers are %+v, want %+v", d, want)
	}
}

// Secrets go when nothing uses them any more, and when what uses them becomes another thing.
func TestSecretsAreDropped(t *testing.T) {
	t.Parallel()
	whole := func() draft {
		return draft{
			document: rule.Document{
				Signing: &rule.SigningOption{Scheme: "standard"}, Auth: &rule.AuthOption{Type: "bearer"},
				ClientCert: &rule.CertificateOption{Subject: "CN=a"}, Earlier: []rule.OwnershipPeriod{{From: time.Unix(1, 0), Until: time.Unix(2, 0)}},
			},
			secrets: rule.Secrets{
				Signing: []rule.SigningSecret{{Secret: "s"}}, Auth: "a", ClientCert: "c", Headers: map[string]string{"X-A": "h"},
			},
		}
	}
	for _, c := range []struct {
		name  string
		given OptionChange
		lost  string
	}{
		{"nothing", OptionChange{}, ""},
		{"the same kinds", OptionChange{Scheme: new("standard"), Auth: new("bearer")}, ""},
		{"another scheme", OptionChange{Scheme: new("generic")}, "signing"},
		{"no scheme", OptionChange{Scheme: new("none")}, "signing"},
		{"the settings' scheme", OptionChange{Scheme: new("")}, "signing"},
		{"another auth", OptionChange{Auth: new("basic")}, "auth"},
		{"no auth", OptionChange{Auth: new("none")}, "auth"},
		{"no certificate", OptionChange{ClientCert: new("none")}, "certificate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := whole()
			if err := d.apply(&c.given, false); err != nil {
				t.Fatal(err)
			}
			for what, kept := range map[string]bool{
				"signing": len(d.secrets.Signing) == 1, "auth": d.secrets.Auth != "", "certificate": d.secrets.ClientCert != "",
				"headers": len(d.secrets.Headers) == 1, "windows": len(d.document.Earlier) == 1,
			} {
				if kept == (what == c.lost) {
					t.Errorf("%s kept: %v", what, kept)
				}
			}
		})
	}
	for _, c := range []struct{ document, lost string }{
		{`{"signing":{"scheme":"standard"},"auth":{"type":"bearer"},"client_cert":{"subject":"CN=b","not_after":"2030-01-01T00:00:00Z",
  "sha256":"x"}}`, ""},
		{`{"auth":{"type":"bearer"}}`, "signing certificate"},
		{`{"signing":{"scheme":"generic"},"auth":{"type":"basic"}}`, "signing auth certificate"},
		{`{"earlier":[]}`, "signing auth certificate"},
	} {
		document, err := rule.ParseDocument(c.document)
		if err != nil {
			t.Fatal(err)
		}
		d := whole()
		if err := d.apply(&OptionChange{Replace: &document}, true); err != nil {
			t.Fatal(err)
		}
		kept := fmt.Sprint(len(d.secrets.Signing) == 1, d.secrets.Auth != "", d.secrets.ClientCert != "")
		want := fmt.Sprint(!strings.Contains(c.lost, "signing"), !strings.Contains(c.lost, "auth"), !strings.Contains(c.lost, "certificate"))
		if kept != want || len(d.secrets.Headers) != 1 || len(d.document.Earlier) != 1 {
			t.Errorf("after %s: %+v", c.document, d)
		}
		if d.document.ClientCert != nil && d.document.ClientCert.Subject != "CN=a" {
			t.Errorf("the certificate is said to be %s", d.document.ClientCert.Subject)
		}
	}
}
