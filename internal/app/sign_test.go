package app_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/signature"
)

const (
	newSecret = "whsec_bmV3LXNlY3JldC1vZi10aGUtcmVjZWl2ZXItMzJieXQ="
	oldSecret = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
	oldPublic = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
)

// first fails the first attempt at each delivery, so that one comes from memory and one from its
// row.
func first(rw http.ResponseWriter, _ *http.Request, c *call) {
	if c.Number == 1 {
		rw.WriteHeader(http.StatusServiceUnavailable)
	}
}

// While a secret is replaced, receivers with the old one and with the new one accept every attempt,
// JSON and form.
func TestRequestsAreSigned(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.noSecrets(newSecret, oldSecret)
	f := w.load("COURSE_ENROLLMENT_CREATED__full")
	receivers := map[string]*receiver{}
	for _, secret := range []string{newSecret, oldPublic} {
		rec := w.receiver(first)
		receivers[secret] = rec
		w.rule(f.Event, rec.URL+"/json", false)
		w.rule(f.Event, rec.at("/form"), true) // credentials of the URL stay beside the signature
	}
	w.publish(f.message(0, "one"))
	w.start(func(cfg *config.Config) {
		cfg.SigningScheme, cfg.SigningSecret = "standard", newSecret+","+oldSecret
	})
	for secret, rec := range receivers {
		verifier, err := signature.NewVerifier(signature.Standard{}, secret)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range rec.wait(t, 4) {
			if err := verifier.Verify(c.Header, []byte(c.Body)); err != nil {
				t.Errorf("%s, attempt %d: %v", c.Path, c.Number, err)
			}
			form := strings.HasPrefix(c.Path, "/form")
			if basic := strings.HasPrefix(c.Header.Get("Authorization"), "Basic "); basic != form {
				t.Errorf("%s: Authorization %v", c.Path, basic)
			}
			if c.Body != f.body(form, "one") {
				t.Errorf("%s: the body is another one than without a signature", c.Path)
			}
		}
	}
}

func TestSigHMAC(t *testing.T) {
	t.Parallel()
	const secret, older = canary + "-sync", "secret-of-last-year"
	w := newWorld(t, 1)
	w.noSecrets(secret, older)
	f := w.load("COURSE_ENROLLMENT_CREATED__full")
	rec := w.receiver(first)
	w.rule(f.Event, rec.URL+"/sync", false)
	conflict := w.rule(f.Event, rec.at("/conflict"), false)
	w.publish(f.message(0, "one"))
	w.start(func(cfg *config.Config) {
		cfg.SigningScheme, cfg.SigningSecret = "sig-hmac-sha256", config.Secret(secret+","+older)
	})
	verifier, err := signature.NewVerifier(signature.SigHMACSHA256(), secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range rec.wait(t, 2) {
		if err := verifier.Verify(c.Header, []byte(c.Body)); err != nil || c.Path != "/sync" {
			t.Errorf("%s: %v", c.Path, err)
		}
	}
	wait(t, "the delivery with credentials to be given up", func() (bool, string) {
		rows := w.rows()
		for _, r := range rows {
			if r.Rule == conflict && delivery.State(r.State) == delivery.Dead {
				return true, ""
			}
		}
		return false, fmt.Sprintf("%+v", rows)
	})
	if line := w.log.find("take them out of the URL"); !strings.Contains(line, fmt.Sprintf(`"rule_id":%d`, conflict)) {
		t.Errorf("the log does not say why: %q", line)
	}
	if calls := rec.all(); len(calls) != 2 {
		t.Errorf("%d calls", len(calls))
	}
}

// Unless a scheme is set, a request has no header that a receiver did not know of.
func TestNothingIsSignedByDefault(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	f := w.load("COURSE_ENROLLMENT_CREATED__full")
	rec := w.receiver(nil)
	w.rule(f.Event, rec.URL+"/plain", false)
	w.publish(f.message(0, "one"))
	w.start(nil)
	header := rec.wait(t, 1)[0].Header
	for _, name := range []string{signature.HeaderSignature, "Authorization"} {
		if header.Get(name) != "" {
			t.Errorf("%s is set", name)
		}
	}
}

// noSecrets looks through all output for secrets, and for what follows their prefix, when the
// daemons have ended: it is called before they start.
func (w *world) noSecrets(secrets ...string) {
	w.t.Helper()
	w.t.Cleanup(func() {
		for _, secret := range secrets {
			_, text, _ := strings.Cut(secret, "_")
			for _, part := range []string{secret, text} {
				if part == "" {
					continue
				}
				if line := w.log.find(part); line != "" {
					w.t.Errorf("a secret is in the log: %s", line)
				}
				if line := w.shown.find(part); line != "" {
					w.t.Errorf("a secret is in an answer of the health server: %s", line)
				}
			}
		}
	})
}
