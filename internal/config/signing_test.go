package config

import (
	"reflect"
	"testing"
)

func TestSigningSecrets(t *testing.T) {
	t.Parallel()
	const one, two = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk="
	const scheme, secret = "WEBHOOK_DISPATCHER_SIGNING_SCHEME=", "WEBHOOK_DISPATCHER_SIGNING_SECRET="
	for _, c := range []struct {
		name    string
		environ []string
		scheme  string
		want    []string
	}{
		{"none", good(), "none", nil},
		{"none by name", good(scheme + "none"), "none", nil},
		{"standard", good(scheme+"Standard", secret+one), "standard", []string{one}},
		{"rotating", good(scheme+"standard", secret+one+","+two), "standard", []string{one, two}},
		{"text", good(scheme+"sig-hmac-sha256", secret+"new one,old"), "sig-hmac-sha256", []string{"new one", "old"}},
		{
			"file", good(scheme+"standard", "WEBHOOK_DISPATCHER_SIGNING_SECRET_FILE="+writeFile(t, "secret", one+","+two+"\n")),
			"standard",
			[]string{one, two},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, _, err := parse(t, c.environ)
			if err != nil {
				t.Fatal(err)
			}
			if got.SigningScheme != c.scheme || !reflect.DeepEqual(got.SigningSecrets(), c.want) {
				t.Errorf("%s, %d secrets", got.SigningScheme, len(got.SigningSecrets()))
			}
		})
	}
}
