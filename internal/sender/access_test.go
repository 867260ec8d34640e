package sender

import (
	"context"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/signature"
)

var update = flag.Bool("update", false, "write the golden files anew")

func accessed(url string, a *rule.Access) *rule.Rule {
	r := ruleFor(url)
	r.Access = a
	return r
}

func signing(t testing.TB, scheme signature.Scheme, until time.Time, secrets ...string) rule.Signing {
	t.Helper()
	s, err := signature.NewSigner(scheme, secrets...)
	if err != nil {
		t.Fatal(err)
	}
	h, isHMAC := scheme.(signature.HMAC)
	return rule.Signing{Signer: s, Until: until, Authorization: isHMAC && h.Header == "Authorization"}
}

// wire writes requests down as they would go over the wire, and answers as fn says, or 204.
func wire(t *testing.T, out *strings.Builder, fn func(*http.Request) *http.Response) http.RoundTripper {
	return roundTrip(func(req *http.Request) (*http.Response, error) {
		if err := req.Write(out); err != nil { // the order of headers is fixed
			t.Error(err)
		}
		out.WriteString("\n\n")
		if answer := fn(req); answer != nil {
			return answer, nil
		}
		return &http.Response{StatusCode: http.StatusNoContent, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
	})
}

func says(status int, contentType, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Header: http.Header{"Content-Type": {contentType}},
		Body: io.NopCloser(strings.NewReader(body)),
	}
}

// The requests of each kind of access, byte for byte, token calls included.
func TestGoldenRequests(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_700_000_000, 0)
	oauth := rule.OAuth2{
		TokenURL: "https://login.test/token?tenant=a", ClientID: "client/id", Secret: "s&cr:et", Scopes: "read write",
		Audience: "https://api.test",
	}
	inBody := oauth
	inBody.InBody = true
	generic := signature.HMAC{Header: "X-Hub-Signature-256", Prefix: "sha256=", Encoding: signature.Hex, Hash: signature.SHA256}
	var got strings.Builder
	for _, c := range []struct {
		name   string
		access *rule.Access
		scheme string // of the settings
		format delivery.Format
	}{
		{"nothing of its own", nil, "", 0},
		{"an empty access", &rule.Access{}, "", 0},
		{"headers", &rule.Access{Header: map[string]string{"X-Api-Key": "k", "Accept": "*/*", "User-Agent": "ua", "Cookie": "a=b"}}, "", 0},
		{"bearer", &rule.Access{Authorization: "Bearer abc"}, "", 0},
		{"bearer, signed as the settings say", &rule.Access{Authorization: "Bearer abc"}, "standard", 0},
		{"basic", &rule.Access{Authorization: "Basic " + base64.StdEncoding.EncodeToString([]byte("u:p"))}, "", 0},
		{"a header Authorization", &rule.Access{Header: map[string]string{"Authorization": "Token abc"}}, "", 0},
		{"OAuth2, credentials in the header", &rule.Access{OAuth2: &oauth}, "", 0},
		{"OAuth2, credentials in the body", &rule.Access{OAuth2: &inBody}, "", 0},
		{"signed by the rule", &rule.Access{Signings: []rule.Signing{signing(t, signature.Standard{}, time.Time{}, signSecret)}}, "", 0},
		{
			"signed by the rule, not as the settings say",
			&rule.Access{Signings: []rule.Signing{signing(t, signature.SigHMACSHA256(), time.Time{}, "s3cret")}},
			"standard", 0,
		},
		{"not signed, whatever the settings say", &rule.Access{Unsigned: true}, "standard", 0},
		{
			"bearer and a signature in a header of its own",
			&rule.Access{Authorization: "Bearer abc", Signings: []rule.Signing{signing(t, generic, time.Time{}, "s3cret")}},
			"sig-hmac-sha256", 0,
		},
		{"CloudEvents", nil, "", delivery.FormatCloudEvents},
	} {
		signings, err := Signings(c.scheme, signSecret)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&got, "=== %s\n", c.name)
		s := newSender(t, func(o *Options) {
			o.Signings, o.Now = signings, func() time.Time { return at }
			o.Transport = wire(t, &got, func(req *http.Request) *http.Response {
				if req.URL.Host == "login.test" {
					return says(200, "application/json", `{"access_token":"t0ken","token_type":"bearer","expires_in":300}`)
				}
				return nil
			})
		})
		d := sample(`{"a":1}`)
		if c.format != 0 {
			d.Format = c.format
		}
		if a := s.Send(t.Context(), accessed("https://hooks.test/in?x=y", c.access), d, 1); !a.OK() {
			t.Errorf("%s: %+v", c.name, a)
		}
	}
	const file = "testdata/requests.golden"
	text := strings.ReplaceAll(got.String(), "\r\n", "\n")
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("the requests are not those of %s; got\n%s", file, text)
	}
}

// What compiling a rule refuses does not get onto the wire either, nor two things that need one
// header.
func TestAccessThatCannotBeSent(t *testing.T) {
	t.Parallel()
	header := func(name, value string) *rule.Access { return &rule.Access{Header: map[string]string{name: value}} }
	own := rule.Signing{Signer: signing(t, signature.SigHMACSHA256(), time.Time{}, "s").Signer, Authorization: true}
	oauth := &rule.OAuth2{TokenURL: "http://t.test/"}
	for name, c := range map[string]struct {
		access *rule.Access
		url    string
		scheme string
	}{
		"CR LF in a value":                  {access: header("X-A", "a\r\nX-B: CANARY")},
		"LF in a value":                     {access: header("X-A", "CANARY\n")},
		"NUL in a value":                    {access: header("X-A", "CANARY\x00")},
		"CR LF in a name":                   {access: header("X-A: CANARY\r\nX-B", "b")},
		"a name with a colon":               {access: header("X-A:CANARY", "b")},
		"an empty name":                     {access: header("", "CANARY")},
		"Content-Type":                      {access: header("Content-Type", "CANARY")},
		"content-type":                      {access: header("content-type", "CANARY")},
		"Content-Length":                    {access: header("Content-Length", "7")},
		"Host":                              {access: header("Host", "CANARY")},
		"Webhook-Id":                        {access: header("Webhook-Id", "CANARY")},
		"webhook-timestamp":                 {access: header("webhook-timestamp", "1")},
		"Webhook-Signature":                 {access: header("Webhook-Signature", "CANARY")},
		"Traceparent":                       {access: header("Traceparent", trace)},
		"Connection":                        {access: header("Connection", "close")},
		"Transfer-Encoding":                 {access: header("Transfer-Encoding", "chunked")},
		"Te":                                {access: header("Te", "trailers")},
		"Trailer":                           {access: header("Trailer", "X")},
		"Upgrade":                           {access: header("Upgrade", "h2c")},
		"Expect":                            {access: header("Expect", "100-continue")},
		"Proxy-Authorization":               {access: header("Proxy-Authorization", "Basic CANARY")},
		"Proxy-Connection":                  {access: header("Proxy-Connection", "close")},
		"Accept-Encoding":                   {access: header("Accept-Encoding", "gzip")},
		"CR LF in a token":                  {access: &rule.Access{Authorization: "Bearer CANARY\r\nX: y"}},
		"token and URL":                     {access: &rule.Access{Authorization: "Bearer CANARY"}, url: "http://u:CANARY@h.test/"},
		"token and header":                  {access: &rule.Access{Authorization: "CANARY", Header: map[string]string{"Authorization": "x"}}},
		"token and signature":               {access: &rule.Access{Authorization: "Bearer CANARY", Signings: []rule.Signing{own}}},
		"URL and signature":                 {access: &rule.Access{Signings: []rule.Signing{own}}, url: "http://u:CANARY@h.test/"},
		"header and URL":                    {access: header("Authorization", "CANARY"), url: "http://u:CANARY@h.test/"},
		"OAuth2 and URL":                    {access: &rule.Access{OAuth2: oauth}, url: "http://u:p@h.test/"},
		"OAuth2 and signature":              {access: &rule.Access{OAuth2: oauth, Signings: []rule.Signing{own}}},
		"OAuth2 and the settings' scheme":   {access: &rule.Access{OAuth2: oauth}, scheme: "sig-hmac-sha256"},
		"a token and the settings' scheme":  {access: &rule.Access{Authorization: "Bearer CANARY"}, scheme: "sig-hmac-sha256"},
		"a header and the settings' scheme": {access: header("Authorization", "CANARY"), scheme: "sig-hmac-sha256"},
	} {
		out := &output{}
		signings, err := Signings(c.scheme, "CANARY")
		if err != nil {
			t.Fatal(err)
		}
		s := newSender(t, func(o *Options) { o.Transport, o.Logger, o.Signings = refuse{t}, out.logger(), signings })
		url := c.url
		if url == "" {
			url = "http://h.test/"
		}
		a := s.Send(t.Context(), accessed(url, c.access), sample("{}"), 1)
		if a.Class != delivery.ClassRequest || !a.Final || a.Status != 0 {
			t.Errorf("%s: %+v", name, a)
		}
		if text := out.String(); strings.Contains(text, "CANARY") || !strings.Contains(text, "detail=") {
			t.Errorf("%s: logged %s", name, text)
		}
	}
}

// A rule signs with what is good at the time of the attempt.
func TestSigningsEnd(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_700_000_000, 0)
	scheme := signature.HMAC{Header: "X-Sig", Encoding: signature.Hex, Hash: signature.SHA256}
	access := &rule.Access{Signings: []rule.Signing{
		signing(t, scheme, at, "first"), signing(t, scheme, at.Add(time.Hour), "second"), signing(t, scheme, time.Time{}, "third"),
	}}
	for name, c := range map[string]struct {
		now    time.Time
		secret string
	}{
		"before the first end": {at.Add(-time.Nanosecond), "first"},
		"at the first end":     {at, "second"},
		"before the second":    {at.Add(time.Hour - time.Nanosecond), "second"},
		"at the second":        {at.Add(time.Hour), "third"},
		"for good":             {at.Add(10_000 * time.Hour), "third"},
	} {
		var header http.Header
		s := newSender(t, func(o *Options) {
			o.Now = func() time.Time { return c.now }
			o.Transport = roundTrip(func(req *http.Request) (*http.Response, error) { header = req.Header; return nowhere(req) })
		})
		if a := s.Send(t.Context(), accessed("http://h.test/", access), sample("body"), 1); !a.OK() {
			t.Fatalf("%s: %+v", name, a)
		}
		v, err := signature.NewVerifier(scheme, c.secret)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Verify(header, []byte("body")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// All have ended: nothing goes out unsigned.
	s := newSender(t, func(o *Options) { o.Transport, o.Now = refuse{t}, func() time.Time { return at } })
	a := s.Send(t.Context(), accessed("http://h.test/", &rule.Access{Signings: access.Signings[:1]}), sample("{}"), 1)
	if a.Class != delivery.ClassRequest || a.Final {
		t.Errorf("%+v", a)
	}
}

func TestTimeoutOfTheRule(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSender(t, func(o *Options) {
			o.Transport = roundTrip(func(req *http.Request) (*http.Response, error) {
				<-req.Context().Done()
				return nil, req.Context().Err()
			})
		})
		for own, want := range map[time.Duration]time.Duration{0: 10 * time.Second, time.Second: time.Second, time.Minute: time.Minute} {
			r := ruleFor("http://h.test/")
			r.Limits.Timeout = own
			if a := s.Send(t.Context(), r, sample("{}"), 1); a.Class != delivery.ClassTimeout || a.Duration != want {
				t.Errorf("%v: %s after %v", own, a.Class, a.Duration)
			}
		}
	})
}

// A preview is the request, and asks nobody for anything.
func TestPreview(t *testing.T) {
	t.Parallel()
	s := newSender(t, func(o *Options) { o.Transport = refuse{t} })
	access := &rule.Access{Header: map[string]string{"X-A": "b"}, OAuth2: &rule.OAuth2{TokenURL: "http://login.test/", Secret: "CANARY"}}
	req, err := s.Preview(context.Background(), accessed("http://h.test/in", access), sample("body"))
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := req.Write(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"POST /in HTTP/1.1", "X-A: b", "Authorization: Bearer … (fetched when sent)", "\r\n\r\nbody"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is missing: %s", want, &text)
		}
	}
	if strings.Contains(text.String(), "CANARY") {
		t.Error(&text)
	}
	reserved := &rule.Access{Header: map[string]string{"Host": "CANARY"}}
	for _, r := range []*rule.Rule{ruleFor("ftp://CANARY/"), accessed("http://h.test/", reserved)} {
		if _, err := s.Preview(context.Background(), r, sample("{}")); err == nil || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%v", err)
		}
	}
}
