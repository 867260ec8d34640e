package signature_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/pkg/signature"
)

const (
	vectorID   = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorTime = 1614265330
	vectorBody = `{"test": 2432232314}`

	vectorSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	// From the tests of Svix, and from those of the Go package of Standard Webhooks.
	svixSecret = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
	svixPublic = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
	goSecret   = "whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk="

	vectorV1  = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	vectorV1a = "v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag=="
)

// at returns a clock that has stopped a while after the vectors' time.
func at(after time.Duration) func() time.Time {
	return func() time.Time { return time.Unix(vectorTime, 0).Add(after) }
}

func newSigner(t testing.TB, scheme signature.Scheme, secrets ...string) signature.Signer {
	t.Helper()
	s, err := signature.NewSigner(scheme, secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newVerifier(t testing.TB, scheme signature.Scheme, secrets ...string) signature.Verifier {
	t.Helper()
	v, err := signature.NewVerifier(scheme, secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func signed(t testing.TB, s signature.Signer, body string) http.Header {
	t.Helper()
	header := http.Header{}
	if err := s.Sign(header, vectorID, time.Unix(vectorTime, 0), []byte(body)); err != nil {
		t.Fatal(err)
	}
	return header
}

func TestPublishedVectors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		scheme  signature.Scheme
		secrets []string
		header  string
		body    string
		want    string
	}{
		"v1":       {signature.Standard{}, []string{vectorSecret}, "webhook-signature", vectorBody, vectorV1},
		"v1a":      {signature.Standard{}, []string{goSecret}, "webhook-signature", vectorBody, vectorV1a},
		"rotating": {signature.Standard{}, []string{goSecret, vectorSecret}, "webhook-signature", vectorBody, vectorV1a + " " + vectorV1},
		// RFC 4231 and RFC 2202, test case 2.
		"sha256": {
			signature.SigHMACSHA256(),
			[]string{"Jefe", "unused"},
			"Authorization", "what do ya want for nothing?",
			"SIG-HMAC-SHA256 5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
		},
		"sha512": {
			signature.HMAC{Header: "x-signature", Hash: signature.SHA512, Encoding: signature.Hex},
			[]string{"Jefe"},
			"X-Signature",
			"what do ya want for nothing?",
			"164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
		},
		"sha1, base64": {
			signature.HMAC{Header: "X-SIGNATURE", Prefix: "sha1=", Hash: signature.SHA1, Encoding: signature.Base64},
			[]string{"Jefe"},
			"X-Signature", "what do ya want for nothing?", "sha1=7/zfauXrL6LSdBbV8YTfnCWafHk=",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			header := signed(t, newSigner(t, c.scheme, c.secrets...), c.body)
			if got := header.Get(c.header); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// What Svix publishes for v1a is a key, which holds its public key.
func TestSvixKey(t *testing.T) {
	t.Parallel()
	header := signed(t, newSigner(t, signature.Standard{}, svixSecret), vectorBody)
	if err := newVerifier(t, signature.Standard{Now: at(0)}, svixPublic).Verify(header, []byte(vectorBody)); err != nil {
		t.Error(err)
	}
}
