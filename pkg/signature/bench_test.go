package signature_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/pkg/signature"
)

// BenchmarkSign signs a body of 1 KiB under a header that has id and time already, as the
// dispatcher's has.
func BenchmarkSign(b *testing.B) {
	for _, c := range []struct {
		name   string
		signer signature.Signer
	}{
		{"v1", newSigner(b, signature.Standard{}, vectorSecret)},
		{"v1+v1", newSigner(b, signature.Standard{}, vectorSecret, otherSecret)},
		{"v1a", newSigner(b, signature.Standard{}, svixSecret)},
		{"sig-hmac-sha256", newSigner(b, signature.SigHMACSHA256(), vectorSecret)},
	} {
		b.Run(c.name, func(b *testing.B) {
			body, now := make([]byte, 1024), time.Unix(vectorTime, 0)
			header := http.Header{"Webhook-Id": {vectorID}, "Webhook-Timestamp": {"1614265330"}}
			b.ReportAllocs()
			for b.Loop() {
				if err := c.signer.Sign(header, vectorID, now, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	for name, secret := range map[string]string{"v1": vectorSecret, "v1a": svixSecret} {
		b.Run(name, func(b *testing.B) {
			body := make([]byte, 1024)
			header := signed(b, newSigner(b, signature.Standard{}, secret), string(body))
			verifier := newVerifier(b, signature.Standard{Now: at(0)}, secret)
			b.ReportAllocs()
			for b.Loop() {
				if err := verifier.Verify(header, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
