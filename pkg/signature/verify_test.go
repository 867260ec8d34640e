package signature_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/pkg/signature"
)

const (
	otherSecret = "whsec_b3RoZXItc2VjcmV0LW9mLTMyLWJ5dGVzLWxlbmd0aCE="
	otherPublic = "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=" // of RFC 8032, test 1
)

func TestStandardVerify(t *testing.T) {
	t.Parallel()
	set := func(name, value string) func(http.Header) { return func(h http.Header) { h.Set(name, value) } }
	drop := func(name string) func(http.Header) { return func(h http.Header) { h.Del(name) } }
	wrongV1 := "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="
	for name, c := range map[string]struct {
		secrets []string // of the receiver; the sender has vectorSecret and svixSecret
		change  func(http.Header)
		after   time.Duration
		scheme  signature.Standard
		body    string
		want    error
		text    string
	}{
		"symmetric":           {secrets: []string{vectorSecret}},
		"public":              {secrets: []string{svixPublic}},
		"secret key":          {secrets: []string{svixSecret}},
		"one of two":          {secrets: []string{otherSecret, vectorSecret}},
		"one of two public":   {secrets: []string{otherPublic, svixPublic}},
		"other":               {secrets: []string{otherSecret}, want: signature.ErrMismatch, text: "signatures: 1, secrets: 1"},
		"other public":        {secrets: []string{otherPublic}, want: signature.ErrMismatch, text: "signatures: 1, secrets: 1"},
		"other body":          {body: vectorBody + " ", want: signature.ErrMismatch},
		"other id":            {change: set("webhook-id", "msg_other"), want: signature.ErrMismatch},
		"other time":          {change: set("webhook-timestamp", "1614265331"), want: signature.ErrMismatch},
		"as old as may be":    {after: signature.DefaultTolerance},
		"too old":             {after: signature.DefaultTolerance + time.Nanosecond, want: signature.ErrTimestamp, text: "signed 5m0s ago"},
		"as early as may be":  {after: -signature.DefaultTolerance},
		"too early":           {after: -signature.DefaultTolerance - time.Second, want: signature.ErrTimestamp, text: "5m1s in the future"},
		"tolerant":            {after: time.Hour, scheme: signature.Standard{Tolerance: 2 * time.Hour}},
		"strict":              {after: 2 * time.Second, scheme: signature.Standard{Tolerance: time.Second}, want: signature.ErrTimestamp},
		"no id":               {change: drop("webhook-id"), want: signature.ErrHeader, text: "webhook-id is missing"},
		"no time":             {change: drop("webhook-timestamp"), want: signature.ErrHeader, text: "webhook-timestamp is missing"},
		"no signature":        {change: drop("webhook-signature"), want: signature.ErrHeader, text: "webhook-signature is missing"},
		"id twice":            {change: func(h http.Header) { h.Add("webhook-id", "x") }, want: signature.ErrHeader, text: "there 2 times"},
		"id in another case":  {change: func(h http.Header) { h["webhook-id"] = []string{"x"} }, want: signature.ErrHeader, text: "2 times"},
		"lower case names":    {change: lower},
		"empty id":            {change: set("webhook-id", ""), want: signature.ErrHeader},
		"full stop in the id": {change: set("webhook-id", "msg.x"), want: signature.ErrHeader, text: "full stop"},
		"space in the id":     {change: set("webhook-id", "msg x"), want: signature.ErrHeader, text: "visible ASCII"},
		"time no number":      {change: set("webhook-timestamp", "hello"), want: signature.ErrHeader, text: "not a number"},
		"time with a sign":    {change: set("webhook-timestamp", "+1614265330"), want: signature.ErrHeader},
		"negative time":       {change: set("webhook-timestamp", "-1"), want: signature.ErrHeader},
		"time with fraction":  {change: set("webhook-timestamp", "1614265330.0"), want: signature.ErrHeader},
		"time with zero":      {change: set("webhook-timestamp", "01614265330"), want: signature.ErrMismatch},
		"time out of range":   {change: set("webhook-timestamp", strings.Repeat("9", 19)), want: signature.ErrHeader},
		"time with 12 digits": {change: set("webhook-timestamp", "999999999999"), want: signature.ErrHeader},
		"time that wraps":     {change: set("webhook-timestamp", "9223372036854775807"), want: signature.ErrHeader},
		"time far ahead":      {change: set("webhook-timestamp", strings.Repeat("9", 11)), want: signature.ErrTimestamp},
		"time zero":           {change: set("webhook-timestamp", "0"), want: signature.ErrTimestamp},
		"empty signature":     {change: set("webhook-signature", "v1,"), want: signature.ErrMismatch},
		"no version":          {change: set("webhook-signature", vectorV1[3:]), want: signature.ErrMismatch, text: "none of the version"},
		"unknown version":     {change: set("webhook-signature", "v2"+vectorV1[2:]), want: signature.ErrMismatch, text: "none of the version"},
		"other version":       {change: set("webhook-signature", "v1a"+vectorV1[2:]), want: signature.ErrMismatch, text: "none of the version"},
		"wrong version":       {secrets: []string{svixPublic}, change: set("webhook-signature", "v1a"+vectorV1[2:]), want: signature.ErrMismatch},
		"other version, with its key": {
			secrets: []string{vectorSecret, svixPublic}, change: set("webhook-signature", "v1a"+vectorV1[2:]), want: signature.ErrMismatch,
		},
		"no base64":        {change: set("webhook-signature", "v1,*"), want: signature.ErrMismatch, text: "signatures: 1"},
		"no padding":       {change: set("webhook-signature", strings.TrimRight(vectorV1, "=")), want: signature.ErrMismatch},
		"half a signature": {change: set("webhook-signature", vectorV1[:19]), want: signature.ErrMismatch},
		"more behind":      {change: set("webhook-signature", vectorV1+","+vectorV1), want: signature.ErrMismatch},
		"last of many":     {change: set("webhook-signature", "x v2,AAAA v1 , "+wrongV1+"  v1,?? "+vectorV1)},
		"unknown are no limit": {
			change: set("webhook-signature", strings.Repeat("v3,AAAA ", 1000)+vectorV1),
		},
		"last that is tried": {change: set("webhook-signature", strings.Repeat(wrongV1+" ", 31)+vectorV1)},
		"too many": {
			change: set("webhook-signature", strings.Repeat(wrongV1+" ", 32)+vectorV1), want: signature.ErrHeader, text: "more than 32",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			header := signed(t, newSigner(t, signature.Standard{}, vectorSecret, svixSecret), vectorBody)
			if c.change != nil {
				c.change(header)
			}
			if c.secrets == nil {
				c.secrets = []string{vectorSecret}
			}
			if c.body == "" {
				c.body = vectorBody
			}
			c.scheme.Now = at(c.after)
			err := newVerifier(t, c.scheme, c.secrets...).Verify(header, []byte(c.body))
			if !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if c.want != nil && !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v does not say %q", err, c.text)
			}
		})
	}
}

// lower spells the names of headers as some frameworks do.
func lower(h http.Header) {
	for name, values := range h {
		delete(h, name)
		h[strings.ToLower(name)] = values
	}
}

func TestRealClock(t *testing.T) {
	t.Parallel()
	header := http.Header{}
	if err := newSigner(t, signature.Standard{}, vectorSecret).Sign(header, "x", time.Now(), nil); err != nil {
		t.Fatal(err)
	}
	if err := newVerifier(t, signature.Standard{}, vectorSecret).Verify(header, nil); err != nil {
		t.Error(err)
	}
}

func TestHMACVerify(t *testing.T) {
	t.Parallel()
	for _, hash := range []signature.Hash{"", signature.SHA256, signature.SHA512, signature.SHA1} {
		for _, enc := range []signature.Encoding{"", signature.Hex, signature.Base64} {
			scheme := signature.HMAC{Header: "x-hook-signature", Prefix: "p=", Hash: hash, Encoding: enc}
			header := signed(t, newSigner(t, scheme, "new", "old"), vectorBody)
			good := header.Get("X-Hook-Signature")
			if len(header) != 1 {
				t.Errorf("%v: headers %v", scheme, header)
			}
			for name, c := range map[string]struct {
				value   string
				secrets []string
				want    error
			}{
				"good":         {good, []string{"new"}, nil},
				"one of two":   {good, []string{"old", "new"}, nil},
				"first signs":  {good, []string{"old"}, signature.ErrMismatch},
				"missing":      {"", []string{"new"}, signature.ErrHeader},
				"no prefix":    {good[2:], []string{"new"}, signature.ErrHeader},
				"other prefix": {"P=" + good[2:], []string{"new"}, signature.ErrHeader},
				"not encoded":  {"p=?", []string{"new"}, signature.ErrHeader},
				"cut":          {good[:10], []string{"new"}, signature.ErrMismatch},
				"empty":        {"p=", []string{"new"}, signature.ErrMismatch},
			} {
				h := http.Header{}
				if c.value != "" {
					h.Set("X-Hook-Signature", c.value)
				}
				err := newVerifier(t, scheme, c.secrets...).Verify(h, []byte(vectorBody))
				if !errors.Is(err, c.want) || c.want == nil && err != nil {
					t.Errorf("%v, %s: got %v, want %v", scheme, name, err, c.want)
				}
			}
			if err := newVerifier(t, scheme, "new").Verify(header, []byte(vectorBody+" ")); !errors.Is(err, signature.ErrMismatch) {
				t.Errorf("%v, other body: %v", scheme, err)
			}
			header.Add("X-Hook-Signature", good)
			if err := newVerifier(t, scheme, "new").Verify(header, []byte(vectorBody)); !errors.Is(err, signature.ErrHeader) {
				t.Errorf("%v, twice: %v", scheme, err)
			}
		}
	}
}

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	s := newSigner(t, signature.Standard{}, vectorSecret)
	for name, c := range map[string]struct {
		id string
		at time.Time
	}{
		"no id":       {"", time.Unix(1, 0)},
		"full stop":   {"msg.1", time.Unix(1, 0)},
		"line break":  {"msg\r\nX: y", time.Unix(1, 0)},
		"not ASCII":   {"msg_é", time.Unix(1, 0)},
		"before 1970": {"msg", time.Unix(-1, 0)},
	} {
		header := http.Header{}
		if err := s.Sign(header, c.id, c.at, nil); err == nil || len(header) != 0 {
			t.Errorf("%s: %v, %v", name, err, header)
		}
	}
	for _, s := range []signature.Signer{s, newSigner(t, signature.SigHMACSHA256(), "s")} {
		if err := s.Sign(nil, "msg", time.Unix(1, 0), nil); err == nil {
			t.Errorf("%v signs into nothing", s)
		}
	}
}

// A signature of another attempt, or of another sender, is replaced.
func TestSignReplaces(t *testing.T) {
	t.Parallel()
	header := http.Header{
		"Webhook-Id": {"a", "b"}, "Webhook-Timestamp": {"1"}, "Webhook-Signature": {"v1,x", "v1,y"}, "Authorization": {"Basic x"},
	}
	s := newSigner(t, signature.Standard{}, vectorSecret)
	if err := s.Sign(header, vectorID, time.Unix(vectorTime, 1), []byte(vectorBody)); err != nil {
		t.Fatal(err)
	}
	if err := newSigner(t, signature.SigHMACSHA256(), "s").Sign(header, "", time.Time{}, []byte(vectorBody)); err != nil {
		t.Fatal(err)
	}
	if len(header) != 4 || len(header["Webhook-Signature"]) != 1 || header.Get("Webhook-Signature") != vectorV1 {
		t.Errorf("%v", header)
	}
	for _, v := range []signature.Verifier{
		newVerifier(t, signature.Standard{Now: at(0)}, vectorSecret), newVerifier(t, signature.SigHMACSHA256(), "s"),
	} {
		if err := v.Verify(header, []byte(vectorBody)); err != nil {
			t.Error(err)
		}
	}
}

func TestNamed(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"standard": "Webhook-Signature", "sig-hmac-sha256": "Authorization"} {
		scheme, ok := signature.Named(name)
		if !ok {
			t.Errorf("%s is not known", name)
			continue
		}
		if header := signed(t, newSigner(t, scheme, vectorSecret), ""); header.Get(want) == "" {
			t.Errorf("%s: %v", name, header)
		}
	}
	if scheme, ok := signature.Named("none"); ok || scheme != nil {
		t.Error(fmt.Sprint(scheme))
	}
}

// One signer and one verifier serve many requests at once, and each call begins anew.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		signer   signature.Signer
		verifier signature.Verifier
	}{
		"standard": {
			newSigner(t, signature.Standard{}, vectorSecret, svixSecret, otherSecret),
			newVerifier(t, signature.Standard{Now: at(0)}, otherSecret, svixPublic),
		},
		"HMAC": {newSigner(t, signature.SigHMACSHA256(), "s"), newVerifier(t, signature.SigHMACSHA256(), "s")},
	} {
		var all sync.WaitGroup
		for worker := range 4 {
			all.Go(func() {
				for i := range 50 {
					body := []byte(strings.Repeat("x", 100*i+worker))
					header := http.Header{}
					if err := c.signer.Sign(header, fmt.Sprintf("msg_%d_%d", worker, i), time.Unix(vectorTime, 0), body); err != nil {
						t.Error(err)
					}
					if err := c.verifier.Verify(header, body); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
			})
		}
		all.Wait()
	}
}
