package signature_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/pkg/signature"
)

// Whatever can be read as a secret signs what its verifier accepts, and nobody else's does.
func FuzzSecret(f *testing.F) {
	for _, secret := range []string{vectorSecret, otherSecret, svixSecret, svixPublic, goSecret, "whsec_", "whsk_=", "x", "whsec_====\n"} {
		f.Add(secret, vectorBody)
	}
	f.Fuzz(func(t *testing.T, secret, body string) {
		for _, scheme := range []signature.Scheme{signature.Standard{Now: at(0)}, signature.SigHMACSHA256()} {
			signer, err := signature.NewSigner(scheme, secret)
			if err != nil {
				if _, err := signature.NewVerifier(scheme, secret); err == nil && !strings.HasPrefix(secret, "whpk_") {
					t.Error("it verifies and does not sign")
				}
				continue
			}
			header := signed(t, signer, body)
			if err := newVerifier(t, scheme, secret).Verify(header, []byte(body)); err != nil {
				t.Error(err)
			}
			const stranger = "whsec_c3RyYW5nZXItc3RyYW5nZXItc3RyYW5nZXI="
			if err := newVerifier(t, scheme, stranger).Verify(header, []byte(body)); err == nil && secret != stranger {
				t.Error("a stranger's secret verifies")
			}
		}
	})
}

// Headers that were made by no signer are refused, and none makes a verifier panic.
func FuzzVerify(f *testing.F) {
	f.Add(vectorID, "1614265330", vectorV1, vectorBody)
	f.Add(vectorID, "1614265330", vectorV1a+" "+vectorV1, vectorBody)
	f.Add("msg.1", "+1", "v1,v1,  ,v1a,=", "")
	f.Add("", "99999999999999999999", "SIG-HMAC-SHA256 00ff", "{}")
	f.Fuzz(func(t *testing.T, id, timestamp, signatures, body string) {
		header := http.Header{
			"Webhook-Id": {id}, "Webhook-Timestamp": {timestamp}, "Webhook-Signature": {signatures}, "Authorization": {signatures},
		}
		standard := newVerifier(t, signature.Standard{Now: at(0), Tolerance: 1 << 62}, vectorSecret, svixPublic)
		if standard.Verify(header, []byte(body)) == nil {
			again := http.Header{}
			seconds, err := time.ParseDuration(timestamp + "s")
			if err != nil {
				t.Fatalf("accepted at %q", timestamp)
			}
			if err := newSigner(t, signature.Standard{}, vectorSecret, svixSecret).
				Sign(again, id, time.Unix(0, 0).Add(seconds), []byte(body)); err != nil {
				t.Fatalf("accepted what cannot be signed: %v", err)
			}
			found := false
			for made := range strings.SplitSeq(again.Get("Webhook-Signature"), " ") {
				found = found || strings.Contains(signatures, made)
			}
			if !found || again.Get("Webhook-Timestamp") != timestamp {
				t.Errorf("accepted %q at %q, which nobody has made", signatures, timestamp)
			}
		}
		if newVerifier(t, signature.SigHMACSHA256(), vectorSecret).Verify(header, []byte(body)) == nil {
			want := signed(t, newSigner(t, signature.SigHMACSHA256(), vectorSecret), body).Get("Authorization")
			if !strings.EqualFold(signatures, want) {
				t.Errorf("accepted %q", signatures)
			}
		}
	})
}
