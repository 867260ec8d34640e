package rule

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/pkg/signature"
)

const (
	canary  = "s3cret-canary"
	whsec1  = "whsec_bmV3LXNlY3JldC1vZi10aGUtcmVjZWl2ZXItMzJieXQ="
	whsec2  = "whsec_b2xkLXNlY3JldC1vZi10aGUtcmVjZWl2ZXItMzJieXQ="
	whsec3  = "whsec_dGhpcmQtc2VjcmV0LW9mLXRoZS1yZWNlaXZlci0zMmJ5dA=="
	tokenAt = "https://login.example.org/token"
)

// clientCertificate makes a PEM file with a certificate and its key.
func clientCertificate(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "dispatcher"}, NotAfter: time.Now().Add(time.Hour),
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})) +
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

func TestNewAccess(t *testing.T) {
	t.Parallel()
	long := map[string]string{}
	for i := range maxHeaders {
		long[fmt.Sprintf("X-%d", i)] = "v"
	}
	generic := func(header string) *SigningOption { return &SigningOption{Scheme: "generic", Header: header} }
	signing := Secrets{Signing: []SigningSecret{{Secret: canary}}}
	for _, c := range []struct {
		name    string
		o       Document
		s       Secrets
		want    func(a *Access) bool // of what is accepted
		refused string               // a part of the error
	}{
		{name: "nothing", want: func(a *Access) bool { return a == nil }},
		{
			name: "headers", o: Document{Headers: map[string]string{"x-tenant": "blue"}},
			s: Secrets{Headers: map[string]string{"X-API-Key": canary}},
			want: func(a *Access) bool {
				return len(a.Header) == 2 && a.Header["X-Tenant"] == "blue" && a.Header["X-Api-Key"] == canary
			},
		},
		{
			name: "a header is there twice", o: Document{Headers: map[string]string{"x-tenant": "blue"}},
			s: Secrets{Headers: map[string]string{"X-Tenant": canary}}, refused: "the header X-Tenant is there twice",
		},
		{name: "as many headers as may be", o: Document{Headers: long}, want: func(a *Access) bool { return len(a.Header) == maxHeaders }},
		{
			name: "more", o: Document{Headers: long}, s: Secrets{Headers: map[string]string{"X": canary}}, refused: "give 32 at most",
		},
		{
			name: "header Authorization", s: Secrets{Headers: map[string]string{"authorization": "Token " + canary}},
			want: func(a *Access) bool { return a.Header["Authorization"] == "Token "+canary && a.claims() == 1 },
		},

		{
			name: "bearer", o: Document{Auth: &AuthOption{Type: "bearer"}}, s: Secrets{Auth: canary},
			want: func(a *Access) bool { return a.Authorization == "Bearer "+canary && a.OAuth2 == nil },
		},
		{
			name: "bearer twice", o: Document{Auth: &AuthOption{Type: "bearer"}}, s: Secrets{Auth: "Bearer " + canary},
			refused: "the bearer token has a character",
		},
		{name: "no secret", o: Document{Auth: &AuthOption{Type: "bearer"}}, refused: "auth bearer has no secret: add --auth-token SECRET"},
		{
			name: "basic", o: Document{Auth: &AuthOption{Type: "basic", Username: "Aladdin"}}, s: Secrets{Auth: "open sesame"},
			want: func(a *Access) bool { return a.Authorization == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==" },
		},
		{
			name: "basic, no user", o: Document{Auth: &AuthOption{Type: "basic"}}, s: Secrets{Auth: canary},
			refused: "needs a user name, without a colon in it: add --auth-user NAME",
		},
		{
			name: "basic, colon", o: Document{Auth: &AuthOption{Type: "basic", Username: "a:b"}}, s: Secrets{Auth: canary},
			refused: "without a colon",
		},
		{
			name: "oauth2",
			o: Document{Auth: &AuthOption{
				Type: "oauth2", TokenURL: tokenAt, ClientID: "id", Scopes: []string{"a", "b"}, Audience: "aud", Style: "body",
			}},
			s: Secrets{Auth: canary},
			want: func(a *Access) bool {
				return *a.OAuth2 == OAuth2{TokenURL: tokenAt, ClientID: "id", Secret: canary, Scopes: "a b", Audience: "aud", InBody: true}
			},
		},
		{
			name: "oauth2 by default", o: Document{Auth: &AuthOption{Type: "oauth2", TokenURL: tokenAt, ClientID: "id"}}, s: Secrets{Auth: canary},
			want: func(a *Access) bool { return !a.OAuth2.InBody && a.OAuth2.Scopes == "" && a.claims() == 1 },
		},
		{
			name: "oauth2, bad URL", o: Document{Auth: &AuthOption{Type: "oauth2", TokenURL: "ftp://h/" + canary, ClientID: "id"}},
			s: Secrets{Auth: canary}, refused: "the token URL of auth oauth2 (--auth-token-url): ",
		},
		{
			name: "oauth2, credentials in the URL",
			o:    Document{Auth: &AuthOption{Type: "oauth2", TokenURL: "https://u:" + canary + "@h/token", ClientID: "id"}},
			s:    Secrets{Auth: canary}, refused: "has credentials in it",
		},
		{
			name: "oauth2, no secret", o: Document{Auth: &AuthOption{Type: "oauth2", TokenURL: tokenAt, ClientID: "id"}},
			refused: "auth oauth2 has no secret: add --auth-client-secret SECRET",
		},
		{
			name: "oauth2, no client", o: Document{Auth: &AuthOption{Type: "oauth2", TokenURL: tokenAt}}, s: Secrets{Auth: canary},
			refused: "no client id: add --auth-client-id ID",
		},
		{
			name: "oauth2, style", o: Document{Auth: &AuthOption{Type: "oauth2", TokenURL: tokenAt, ClientID: "id", Style: "query"}},
			s: Secrets{Auth: canary}, refused: `unknown style "query" of auth oauth2: write header or body`,
		},
		{
			name: "basic, no secret", o: Document{Auth: &AuthOption{Type: "basic", Username: "a"}},
			refused: "auth basic has no secret: add --auth-password SECRET",
		},
		{
			name: "unknown auth", o: Document{Auth: &AuthOption{Type: "digest"}}, s: Secrets{Auth: canary},
			refused: `unknown auth "digest": write one of bearer, basic, oauth2`,
		},

		{
			name: "not signed", o: Document{Signing: &SigningOption{Scheme: "none"}}, s: signing,
			want: func(a *Access) bool { return a.Unsigned && len(a.Signings) == 0 },
		},
		{
			name: "generic", o: Document{Signing: generic("X-Hub-Signature-256")}, s: signing,
			want: func(a *Access) bool { return len(a.Signings) == 1 && !a.Signings[0].Authorization && a.claims() == 0 },
		},
		{
			name: "generic in the header of Standard Webhooks", o: Document{Signing: generic("webhook-signature")}, s: signing,
			want: func(a *Access) bool { return len(a.Signings) == 1 },
		},
		{
			name: "generic in Authorization", o: Document{Signing: generic("authorization")}, s: signing,
			want: func(a *Access) bool { return a.Signings[0].Authorization && a.claims() == 1 },
		},
		{name: "generic, no header", o: Document{Signing: generic("")}, s: signing, refused: "header: add --signature-header NAME"},
		{name: "generic, reserved", o: Document{Signing: generic("Content-Type")}, s: signing, refused: "Content-Type is reserved"},
		{name: "generic, repeats", o: Document{Signing: generic("Idempotency-Key")}, s: signing, refused: "Idempotency-Key is reserved"},
		{name: "generic, id", o: Document{Signing: generic("webhook-id")}, s: signing, refused: "Webhook-Id is reserved"},
		{
			name: "generic, taken", o: Document{Signing: generic("X-Sig"), Headers: map[string]string{"x-sig": "v"}}, s: signing,
			refused: "the header X-Sig is the signature's",
		},
		{
			name: "generic, hash", o: Document{Signing: &SigningOption{Scheme: "generic", Header: "X", Hash: "md5"}}, s: signing,
			refused: `the hash "md5" is none of`,
		},
		{
			name: "unknown scheme", o: Document{Signing: &SigningOption{Scheme: "hmac"}}, s: signing,
			refused: `unknown scheme "hmac": write one of none, standard, sig-hmac-sha256, generic`,
		},
		{
			name: "no signing secret", o: Document{Signing: &SigningOption{Scheme: "standard"}},
			refused: "the scheme standard has no secret: add --secret SECRET",
		},
		{name: "not a secret of the scheme", o: Document{Signing: &SigningOption{Scheme: "standard"}}, s: signing, refused: "whsec_"},
		{name: "a secret without a scheme", s: signing, refused: "no scheme: add --scheme NAME"},
		{
			name: "all secrets have ends", o: Document{Signing: generic("X-Sig")},
			s: Secrets{Signing: []SigningSecret{{Secret: canary, Until: noon}}}, refused: "every signing secret has an end",
		},

		{
			name: "auth and signature", o: Document{Auth: &AuthOption{Type: "bearer"}, Signing: &SigningOption{Scheme: "sig-hmac-sha256"}},
			s: Secrets{Auth: canary, Signing: signing.Signing}, refused: "more than one of",
		},
		{
			name: "auth and header", o: Document{Auth: &AuthOption{Type: "oauth2", TokenURL: tokenAt, ClientID: "id"}},
			s: Secrets{Auth: canary, Headers: map[string]string{"AUTHORIZATION": canary}}, refused: "more than one of",
		},
		{
			name: "header and signature", o: Document{Signing: generic("Authorization")},
			s: Secrets{Signing: signing.Signing, Headers: map[string]string{"Authorization": canary}}, refused: "more than one of",
		},
		{
			name: "auth, and a signature elsewhere", o: Document{Auth: &AuthOption{Type: "bearer"}, Signing: generic("X-Sig")},
			s: Secrets{Auth: canary, Signing: signing.Signing}, want: func(a *Access) bool { return a.claims() == 1 && len(a.Signings) == 1 },
		},

		{
			name: "client certificate", s: Secrets{ClientCert: clientCertificate(t)}, o: Document{ClientCert: &CertificateOption{Subject: "x"}},
			want: func(a *Access) bool { return len(a.Certificate.Certificate) == 1 },
		},
		{name: "no certificate", o: Document{ClientCert: &CertificateOption{}}, refused: "the client certificate cannot be used"},
		{name: "bad certificate", s: Secrets{ClientCert: canary}, refused: "the client certificate cannot be used"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, err := NewAccess(&c.o, &c.s)
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) || a != nil {
					t.Fatalf("error %v, want one with %q", err, c.refused)
				}
			} else if err != nil || !c.want(a) {
				t.Errorf("access %#v, error %v", a, err)
			}
			if shown := fmt.Sprintf("%v %+v %#v %s %v %+v %#v", a, a, a, err, c.s, c.s, c.s); strings.Contains(shown, canary) {
				t.Errorf("a secret is shown: %s", shown)
			}
		})
	}
}

func TestCheckHeader(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, value, refused string }{
		{"X-Tenant", "blue", ""},
		{"User-Agent", "mine", ""},
		{"accept", "text/plain", ""},
		{"Cookie", "a=b; c=d", ""},
		{"X-Tab", "a\tb é", ""},
		{"X-Long", strings.Repeat("x", maxHeaderBytes), ""},
		{"X-Long", strings.Repeat("x", maxHeaderBytes+1), "has 8193 bytes"},
		{"", "v", "cannot be the name"},
		{"X Y", "v", "cannot be the name"},
		{"X\r\nHost", "v", "cannot be the name"},
		{"Ö", "v", "cannot be the name"},
		{"X-Empty", "", "has no value"},
		{"X-Break", "a\r\nHost: b", "control character"},
		{"X-Nul", "a\x00", "control character"},
		{"X-Space", " a", "spaces around"},
		{"HOST", "h", "reserved"},
		{"content-type", "a", "reserved"},
		{"Content-Length", "1", "reserved"},
		{"Content-Encoding", "gzip", "reserved"},
		{"transfer-encoding", "chunked", "reserved"},
		{"Connection", "close", "reserved"},
		{"Keep-Alive", "1", "reserved"},
		{"TE", "trailers", "reserved"},
		{"Trailer", "X", "reserved"},
		{"Upgrade", "h2c", "reserved"},
		{"Expect", "100-continue", "reserved"},
		{"traceparent", "00", "reserved"},
		{"accept-encoding", "br", "reserved"},
		{"proxy-authorization", "x", "reserved"},
		{"webhook-id", "x", "reserved"},
		{"Webhook-Anything", "x", "reserved"},
		{"idempotency-key", "x", "one attempt could become several requests"},
		{"X-Idempotency-KEY", "x", "one attempt could become several requests"},
		{"Idempotency", "x", ""},
	} {
		err := CheckHeader(c.name, c.value)
		if (err == nil) != (c.refused == "") || err != nil && !strings.Contains(err.Error(), c.refused) {
			t.Errorf("%q: error %v, want %q", c.name, err, c.refused)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\r\n\x00") {
			t.Errorf("%q: the error breaks the line: %q", c.name, err)
		}
	}
}

// Until its end a secret signs beside those that stay; after it the others sign alone.
func TestSigningsEnd(t *testing.T) {
	t.Parallel()
	secrets := &Secrets{Signing: []SigningSecret{
		{Secret: whsec1}, {Secret: whsec2, Until: at(20)}, {Secret: whsec3, Until: at(10).In(time.FixedZone("", 3600))},
	}}
	a, err := NewAccess(&Document{Signing: &SigningOption{Scheme: "standard"}}, secrets)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Signings) != 3 || !a.Signings[0].Until.Equal(at(10)) || !a.Signings[1].Until.Equal(at(20)) || !a.Signings[2].Until.IsZero() {
		t.Fatalf("signings until %v", a.Signings)
	}
	for i, accepted := range [][]string{{whsec1, whsec2, whsec3}, {whsec1, whsec2}, {whsec1}} {
		header := http.Header{signature.HeaderID: {"msg_1"}, signature.HeaderTimestamp: {fmt.Sprint(time.Now().Unix())}}
		if err := a.Signings[i].Signer.Sign(header, "msg_1", time.Now(), []byte("body")); err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{whsec1, whsec2, whsec3} {
			verifier, err := signature.NewVerifier(signature.Standard{}, secret)
			if err != nil {
				t.Fatal(err)
			}
			want := strings.Contains(strings.Join(accepted, " "), secret)
			if good := verifier.Verify(header, []byte("body")) == nil; good != want {
				t.Errorf("signing %d, %s…: accepted %v, want %v", i, secret[:12], good, want)
			}
		}
	}
	// Where there is room for one signature, the newest secret makes it, whatever ends there are.
	secrets.Signing = []SigningSecret{{Secret: "new"}, {Secret: "old", Until: at(10)}}
	if a, err = NewAccess(&Document{Signing: &SigningOption{Scheme: "sig-hmac-sha256"}}, secrets); err != nil || len(a.Signings) != 2 {
		t.Fatal(err)
	}
	for _, s := range a.Signings {
		header := http.Header{}
		if err := s.Signer.Sign(header, "", time.Time{}, []byte("body")); err != nil {
			t.Fatal(err)
		}
		verifier, err := signature.NewVerifier(signature.SigHMACSHA256(), "new")
		if err != nil {
			t.Fatal(err)
		}
		if err := verifier.Verify(header, []byte("body")); err != nil || !s.Authorization {
			t.Error(err)
		}
	}
}
