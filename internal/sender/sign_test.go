package sender

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/signature"
)

const (
	signSecret  = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	signSecret2 = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
	signPublic2 = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
)

// sent sends one delivery through the transport of a test and returns the request's header, nil
// where none was made.
func sent(t *testing.T, url, scheme string, at time.Time, out *output, secrets ...string) (http.Header, delivery.Attempt) {
	t.Helper()
	signings, err := Signings(scheme, secrets...)
	if err != nil {
		t.Fatal(err)
	}
	var header http.Header
	s := newSender(t, func(o *Options) {
		o.Signings, o.Now, o.Logger = signings, func() time.Time { return at }, out.logger()
		o.Transport = roundTrip(func(req *http.Request) (*http.Response, error) {
			header = req.Header.Clone()
			return nowhere(req)
		})
	})
	return header, s.Send(t.Context(), ruleFor(url), sample(`{"a":1}`), 1)
}

func TestSchemes(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_700_000_000, 999_999_999)
	clock := signature.Standard{Now: func() time.Time { return at }, Tolerance: time.Second}
	for name, c := range map[string]struct {
		scheme   string
		secrets  []string
		verify   signature.Scheme
		verifies []string // secrets, each by itself
		headers  int
	}{
		"standard":        {"standard", []string{signSecret}, clock, []string{signSecret}, 6},
		"rotating":        {"standard", []string{signSecret2, signSecret}, clock, []string{signSecret, signPublic2}, 6},
		"sig-hmac-sha256": {"sig-hmac-sha256", []string{"s3cret", "old"}, signature.SigHMACSHA256(), []string{"s3cret"}, 6},
		"none":            {"none", nil, nil, nil, 5},
		"not set":         {"", nil, nil, nil, 5},
	} {
		header, a := sent(t, "http://h.test/x", c.scheme, at, &output{}, c.secrets...)
		if !a.OK() || len(header) != c.headers {
			t.Errorf("%s: %+v, %v", name, a, header)
		}
		for _, secret := range c.verifies {
			v, err := signature.NewVerifier(c.verify, secret)
			if err != nil {
				t.Fatal(err)
			}
			if err := v.Verify(header, []byte(`{"a":1}`)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if header.Get("Webhook-Id") != sample("").ID.String() || header.Get("Webhook-Timestamp") != "1700000000" {
			t.Errorf("%s: %v", name, header)
		}
	}
}

// Credentials of the URL and a signature that wants the same header: nothing is sent, and the
// reason is said.
func TestCredentialsAgainstSignature(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		scheme, secret string
		refused        bool
	}{
		"standard":        {"standard", signSecret, false},
		"sig-hmac-sha256": {"sig-hmac-sha256", "CANARY", true},
		"none":            {"none", "", false},
	} {
		out := &output{}
		header, a := sent(t, "http://user:CANARY@h.test/CANARY", c.scheme, time.Unix(1_700_000_000, 0), out, c.secret)
		text := out.String()
		if strings.Contains(text, "CANARY") {
			t.Errorf("%s: %s", name, text)
		}
		if !c.refused {
			if !a.OK() || !strings.HasPrefix(header.Get("Authorization"), "Basic ") {
				t.Errorf("%s: %+v, %v", name, a, header)
			}
			continue
		}
		if header != nil || a.Class != delivery.ClassRequest || !a.Final {
			t.Errorf("%s: %+v, %v", name, a, header)
		}
		if !strings.Contains(text, "take them out of the URL") || !strings.Contains(text, "WEBHOOK_DISPATCHER_SIGNING_SCHEME") {
			t.Errorf("%s: the log does not say what to do: %s", name, text)
		}
	}
}

// A signature that covers each attempt anew: the id stays, the time moves on.
func TestEachAttemptIsSigned(t *testing.T) {
	t.Parallel()
	signings, err := Signings("standard", signSecret)
	if err != nil {
		t.Fatal(err)
	}
	var now time.Time
	verifier, err := signature.NewVerifier(signature.Standard{Now: func() time.Time { return now }, Tolerance: time.Second}, signSecret)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = verifier.Verify(r.Header, body)
		}
		ids[r.Header.Get("Webhook-Id")] = true
		if err != nil {
			t.Error(err)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(server.Close)
	s := newSender(t, func(o *Options) { o.Signings, o.Now = signings, func() time.Time { return now } })
	for number := 1; number <= 3; number++ {
		now = time.Unix(1_700_000_000+int64(number)*3600, 0)
		if a := s.Send(t.Context(), ruleFor(server.URL), sample(`{"é":1.50}`), number); !a.OK() {
			t.Errorf("attempt %d: %+v", number, a)
		}
	}
	if len(ids) != 1 {
		t.Errorf("ids %v", ids)
	}
}

func TestSigningsRefuse(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		scheme  string
		secrets []string
	}{
		"unknown":       {"generic", []string{"CANARY"}},
		"no secret":     {"standard", nil},
		"wrong secret":  {"standard", []string{"CANARY"}},
		"second wrong":  {"standard", []string{signSecret, "whsec_CANARY"}},
		"empty secret":  {"sig-hmac-sha256", []string{""}},
		"public key":    {"standard", []string{signPublic2}},
		"no secret too": {"sig-hmac-sha256", nil},
	} {
		if s, err := Signings(c.scheme, c.secrets...); err == nil || s != nil || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
}

// BenchmarkSendSigned is BenchmarkSendWithoutNetwork with a signature.
func BenchmarkSendSigned(b *testing.B) {
	signings, err := Signings("standard", signSecret)
	if err != nil {
		b.Fatal(err)
	}
	s := newSender(b, func(o *Options) { o.Transport, o.Signings = nowhere, signings })
	r, d := ruleFor("http://hooks.test/hooks/openedx?token=abc"), sample(string(make([]byte, benchBody)))
	b.ReportAllocs()
	for b.Loop() {
		s.Send(b.Context(), r, d, 1)
	}
}
