package cli

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
			err := (&rotateFlags{secret: "new", keep: c.keep}).rotate(&d, now)
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
	late := []rule.SigningSecret{{Secret: "old"}, {Secret: "older", Until: now.Add(48 * time.Hour)}}
	const also = "; besides with 1 secret of an earlier rotation until 2026-03-03T10:00:00.000Z at the latest"
	for _, c := range []struct {
		name   string
		before []rule.SigningSecret
		keep   time.Duration
		scheme string
		want   string
	}{
		{
			"one before", late[:1], time.Hour, "standard",
			"is signed with the new secret, and with the one before until 2026-03-01T11:00:00.000Z: give the receiver the new one by then",
		},
		{
			"an earlier one ends later", late, time.Hour, "standard",
			"is signed with the new secret, and with the one before until 2026-03-01T11:00:00.000Z: give the receiver the new one by then" + also,
		},
		{"none kept", late[:1], 0, "standard", "is signed with the new secret alone from now on: the receiver must know it already"},
		{
			"an earlier one is left", late, 0, "standard",
			"is signed with the new secret, and no longer with the one before: the receiver must know the new one already" + also,
		},
		{
			"one signature", late, time.Hour, "generic",
			"is signed with the new secret alone from now on: generic has room for one signature, so the receiver must know the new secret " +
				"already, and keep the old one until what is under way has arrived",
		},
	} {
		d := draft{document: rule.Document{Signing: &rule.SigningOption{Scheme: c.scheme}}, secrets: rule.Secrets{Signing: c.before}}
		f := &rotateFlags{secret: "new", keep: c.keep}
		if err := f.rotate(&d, now); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got := f.rotated(&d, now); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, c.want)
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
		if got := beginning(secret); got != want {
			t.Errorf("beginning(%q) = %q, want %q", secret, got, want)
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
		given optionFlags
		lost  string
	}{
		{"nothing", optionFlags{}, ""},
		{"the same kinds", optionFlags{signingFlags: signingFlags{Scheme: given("standard")}, authFlags: authFlags{Auth: given("bearer")}}, ""},
		{"another scheme", optionFlags{signingFlags: signingFlags{Scheme: given("generic")}}, "signing"},
		{"no scheme", optionFlags{signingFlags: signingFlags{Scheme: given("none")}}, "signing"},
		{"the settings' scheme", optionFlags{signingFlags: signingFlags{Scheme: given("")}}, "signing"},
		{"another auth", optionFlags{authFlags: authFlags{Auth: given("basic")}}, "auth"},
		{"no auth", optionFlags{authFlags: authFlags{Auth: given("none")}}, "auth"},
		{"no certificate", optionFlags{certificateFlags: certificateFlags{ClientCert: given("none")}}, "certificate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			steps, err := c.given.changes(&inputs{})
			if err != nil {
				t.Fatal(err)
			}
			d := whole()
			if err := d.apply(steps); err != nil {
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
		if err := d.apply([]change{func(d *draft) error { return d.replace(&document, true) }}); err != nil {
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

func given(value string) text { return text{value: value, given: true} }
