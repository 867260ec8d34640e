package signature_test

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/pkg/signature"
)

func encoded(n int) string { return base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", n))) }

func TestSecrets(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		secret       string
		sign, verify string // what the errors say, "" where it can be used
	}{
		"least":             {"whsec_" + encoded(24), "", ""},
		"most":              {"whsec_" + encoded(64), "", ""},
		"too short":         {"whsec_" + encoded(23), "has 23 bytes", "has 23 bytes"},
		"too long":          {"whsec_" + encoded(65), "has 65 bytes", "has 65 bytes"},
		"no prefix":         {encoded(24), "does not begin with whsec_", "does not begin with whsec_"},
		"other prefix":      {"whsek_" + encoded(24), "does not begin with whsec_", "does not begin with whsec_"},
		"upper case":        {"WHSEC_" + encoded(24), "does not begin with whsec_", "does not begin with whsec_"},
		"prefix alone":      {"whsec_", "has 0 bytes", "has 0 bytes"},
		"empty":             {"", "does not begin with", "does not begin with"},
		"URL alphabet":      {"whsec_" + strings.Repeat("-_-_", 8), "not standard base64", "not standard base64"},
		"no padding":        {"whsec_" + strings.TrimRight(encoded(25), "="), "with its padding", "with its padding"},
		"line break":        {"whsec_" + encoded(24) + "\n", "line break", "line break"},
		"space before":      {" whsec_" + encoded(24), "does not begin with", "does not begin with"},
		"space behind":      {"whsec_" + encoded(24) + " ", "not standard base64", "not standard base64"},
		"seed":              {goSecret, "", ""},
		"seed and public":   {svixSecret, "", ""},
		"not together":      {svixSecret[:60] + "A" + svixSecret[61:], "do not belong together", "do not belong together"},
		"cut secret key":    {svixSecret[:len(svixSecret)-4], "has 63 bytes", "has 63 bytes"},
		"public":            {svixPublic, "is a public key, which cannot sign", ""},
		"public too short":  {"whpk_" + encoded(31), "has 31 bytes", "has 31 bytes"},
		"secret key length": {"whsk_" + encoded(33), "has 33 bytes", "has 33 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, sign := signature.NewSigner(signature.Standard{}, c.secret)
			_, verify := signature.NewVerifier(signature.Standard{}, c.secret)
			expect(t, sign, c.sign)
			expect(t, verify, c.verify)
		})
	}
}

func expect(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Error(err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("got %v, want %q", err, want)
	}
}

func TestSchemesAreChecked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		scheme  signature.Scheme
		secrets []string
		want    string
	}{
		"no scheme":         {nil, []string{"s"}, "no scheme"},
		"no secret":         {signature.Standard{}, nil, "no secret"},
		"no secret, HMAC":   {signature.SigHMACSHA256(), nil, "no secret"},
		"empty secret":      {signature.SigHMACSHA256(), []string{"s", ""}, "secret 2 of 2 is empty"},
		"second is wrong":   {signature.Standard{}, []string{vectorSecret, "x"}, "secret 2 of 2 does not begin"},
		"no header":         {signature.HMAC{}, []string{"s"}, `"" cannot be the name of a header`},
		"header with colon": {signature.HMAC{Header: "X:y"}, []string{"s"}, "cannot be the name"},
		"header with space": {signature.HMAC{Header: "X y"}, []string{"s"}, "cannot be the name"},
		"prefix with break": {signature.HMAC{Header: "X", Prefix: "a\r\nb"}, []string{"s"}, "the prefix"},
		"prefix with space": {signature.HMAC{Header: "X", Prefix: " a"}, []string{"s"}, "the prefix"},
		"hash":              {signature.HMAC{Header: "X", Hash: "md5"}, []string{"s"}, `hash "md5"`},
		"encoding":          {signature.HMAC{Header: "X", Encoding: "rot13"}, []string{"s"}, `encoding "rot13"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, sign := signature.NewSigner(c.scheme, c.secrets...)
			_, verify := signature.NewVerifier(c.scheme, c.secrets...)
			expect(t, sign, c.want)
			expect(t, verify, c.want)
		})
	}
	_, err := signature.NewVerifier(signature.Standard{Tolerance: -1}, vectorSecret)
	expect(t, err, "negative")
}

// Neither errors nor a signer or verifier that somebody prints show a secret.
func TestNothingSecretIsShown(t *testing.T) {
	t.Parallel()
	const canary = "CANARYCANARYCANARYCANARYCANARY00" // base64 as it stands
	var out strings.Builder
	logger := slog.New(slog.NewTextHandler(&out, nil))
	show := func(things ...any) {
		for _, thing := range things {
			if thing == nil {
				continue
			}
			for _, format := range []string{"%v\n", "%+v\n", "%#v\n", "%s\n"} {
				text := fmt.Sprintf(format, thing)
				if _, failed := thing.(error); !failed && !strings.HasPrefix(text, "signature.") {
					t.Errorf("%q shows %s", format, text)
				}
				out.WriteString(text)
			}
			logger.Info("shown", "thing", thing)
		}
	}
	schemes := []signature.Scheme{
		signature.Standard{}, signature.SigHMACSHA256(), signature.HMAC{Header: "X", Hash: signature.SHA512, Encoding: signature.Base64},
	}
	for _, scheme := range schemes {
		for _, secret := range []string{
			canary, "whsec_" + canary, "whsk_" + canary, "whpk_" + canary, "whsec_" + canary + "?", "whsec_" + canary[:20],
			"whsk_" + canary + canary[:11] + "=", "whsec_" + strings.Repeat(canary, 3), "CANARY_CANARY", "whsec_CANARY\n",
		} {
			for _, secrets := range [][]string{{secret}, {secret, ""}} {
				signer, err := signature.NewSigner(scheme, secrets...)
				show(err)
				if err == nil {
					header := map[string][]string{}
					show(signer, signer.Sign(header, "a.b", time.Unix(1, 0), []byte(canary)), signer.Sign(header, "", time.Unix(1, 0), []byte(canary)))
				}
				verifier, err := signature.NewVerifier(scheme, secrets...)
				show(err)
				if err == nil {
					show(verifier)
					for _, value := range []string{"", canary, "v1," + canary, "SIG-HMAC-SHA256 " + canary} {
						header := map[string][]string{"X": {value}, "Authorization": {value}}
						for _, name := range []string{signature.HeaderID, signature.HeaderTimestamp, signature.HeaderSignature} {
							header[name] = []string{value}
							show(verifier.Verify(header, []byte(canary)))
						}
						header[signature.HeaderTimestamp] = []string{fmt.Sprint(time.Now().Unix())}
						show(verifier.Verify(header, []byte(canary)))
					}
				}
			}
		}
	}
	raw, err := base64.StdEncoding.DecodeString(canary)
	if err != nil {
		t.Fatal(err)
	}
	text := out.String()
	if n := strings.Count(text, "\n"); n < 100 {
		t.Errorf("%d lines", n)
	}
	for _, secret := range []string{
		"CANARY", string(raw[:6]), fmt.Sprintf("%d %d %d", raw[0], raw[1], raw[2]), fmt.Sprintf("%#x, %#x", raw[0], raw[1]), "67 65 78",
	} {
		for line := range strings.Lines(text) {
			if strings.Contains(line, secret) {
				t.Fatalf("%q is in %s", secret, line)
			}
		}
	}
}
