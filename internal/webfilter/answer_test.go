package webfilter

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/sender"
)

// What requests 2.34.2 and json.loads made of these.
func TestAnswersAsPythonReadsThem(t *testing.T) {
	t.Parallel()
	const (
		accent = "{\"data\": {\"k\": \"caf\xc3\xa9\"}}"
		single = "{\"data\": {\"k\": \"caf\xe9 \x80\"}}"
		right  = `{"k": "caf\u00e9"}`
		wrong  = `{"k": "caf\u00c3\u00a9"}`
	)
	for _, c := range []struct{ contentType, body, want string }{
		{"application/json", accent, right},
		{"APPLICATION/JSON", accent, right},
		{"text/plain", accent, wrong},
		{"TEXT/plain", accent, right},
		{"x-text/json", accent, wrong},
		{"application/octet-stream", accent, right},
		{"", accent, right},
		{"text/html; charset=utf-8", accent, right},
		{"text/html; Charset=\"UTF8\"", accent, right},
		{"application/json; charset=nonsense", accent, right},
		{"application/json; charset=", accent, right},
		{"; charset=latin-1", accent, wrong},
		{"text/plain", single, `{"k": "caf\u00e9 \u0080"}`},
		{"application/json; charset=ISO-8859-1", single, `{"k": "caf\u00e9 \u0080"}`},
		{"application/json; charset=windows-1252", single, `{"k": "caf\u00e9 \u20ac"}`},
		{"application/json; charset=utf-8; charset=cp1252", single, `{"k": "caf\u00e9 \u20ac"}`},
		{"text/plain; charset=iso-8859-15", "{\"data\": {\"k\": \"\xa4\"}}", `{"k": "\u20ac"}`},
		{"text/plain;charset=shift_jis", "{\"data\": {\"k\": \"\x8a\xbf\"}}", `{"k": "\u6f22"}`},
		{"application/json; charset=utf-16le", strings.Join(strings.Split("{\"data\": {}}", ""), "\x00") + "\x00", `{}`},
		{"application/json", "{\"data\": {\"k\": \"\xe2\x82 \xf0\x9f\x98 \xff\xfe\"}}", `{"k": "\ufffd \ufffd \ufffd\ufffd"}`},
		{"application/json", "\xef\xbb\xbf" + accent, "none"},
		{"", "\xef\xbb\xbf" + accent, right},
		{"application/json", "", "none"},
		{"application/json", "<html>", "none"},
		{"application/json", "[1]", "none"},
		{"application/json", `"data"`, "none"},
		{"application/json", `{"data": {"k": 1}} x`, "none"},
		{"application/json", `{"data": {"k": 1,}}`, "none"},
		{"application/json", `{"Data": {"k": 1}}`, "none"},
		{"application/json", `{"data": {"k": 1}, "data": {"l": 2}}`, `{"l": 2}`},
		{"application/json", " \t\r\n{\"data\": {\"k\": 1}}\n", `{"k": 1}`},
	} {
		if got := data(c.contentType, c.body); got != c.want && (c.want != "none" || got != "{}") {
			t.Errorf("%q, %q: got %s, want %s", c.contentType, c.body, got, c.want)
		}
	}
}

func data(contentType, body string) string {
	var m merged
	m.add(&rule.Webfilter{}, &sender.Answer{Status: 200, ContentType: contentType, Body: []byte(body)})
	return string(payload.AppendJSON(nil, m.data.Object()))
}

func TestRequestsOfThePlugin(t *testing.T) {
	t.Parallel()
	const asJSON, asForm = "application/json", "application/x-www-form-urlencoded"
	for _, c := range []struct{ contentType, body, want string }{
		{asJSON, `{"b": [1.0], "a": {}}`, `{"b": [1.0], "a": {}}`},
		{"Application/JSON; charset=utf-8", `{}`, `{}`},
		{asForm, "b=1&a=%C3%A9+%2B&b=2&&c", `{"b": "2", "a": "\u00e9 +", "c": ""}`},
		{asForm, "", `{}`},
		{asJSON, ``, "error"},
		{asJSON, `[]`, "error"},
		{asJSON, `{"a": 1`, "error"},
		{asJSON, "{\"a\": \"\xff\"}", "error"},
		{asForm, "a=%zz", "error"},
		{asForm, "%zz=1", "error"},
		{asForm, "a=%ff", "error"},
		{"text/plain", `{}`, "error"},
		{"", `{}`, "error"},
		{";", `{}`, "error"},
	} {
		q, err := ParseRequest("X", c.contentType, []byte(c.body))
		got := "error"
		if err == nil {
			got = string(payload.AppendJSON(nil, q.Payload))
		}
		if got != c.want {
			t.Errorf("%q, %q: got %s, %v, want %s", c.contentType, c.body, got, err, c.want)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	for _, contentType := range []string{"application/json", "text/plain", "", "a; charset=utf-16", "a;charset=gbk", "a;charset=iso-2022-jp"} {
		for _, body := range []string{`{"data": {"k": 1}}`, "\xef\xbb\xbf{}", `{"data": {"\ud800": NaN}}`, "\xff\xfe{\x00}\x00", "[", ""} {
			f.Add(contentType, []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		if text := decode(body, contentType); !utf8.ValidString(text) {
			t.Fatalf("%q is not UTF-8", text)
		}
		answer := data(contentType, string(body))
		again, err := payload.ParseJSON([]byte(answer))
		if err != nil || again.Kind() != payload.Object {
			t.Fatalf("%s: %v", answer, err)
		}
	})
}

func FuzzRequest(f *testing.F) {
	for _, contentType := range []string{"application/json", "application/x-www-form-urlencoded", "a/b; c=d", ""} {
		for _, body := range []string{`{"a": [1, 2.5, "x"]}`, "a=1&b=%20&a=2", "%", "&=&", `{"a": {"b": null}}`} {
			f.Add(contentType, []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		q, err := ParseRequest("CourseEnrollmentStarted", contentType, body)
		if err != nil {
			return
		}
		if q.Payload.Kind() != payload.Object {
			t.Fatal("a payload that is no object")
		}
		both := bodies{request: q}
		asForm, asJSON := both.in(2), both.in(1)
		if fields, err := parseForm(string(asForm)); err != nil || fields.Kind() != payload.Object {
			t.Fatalf("%q: %v", asForm, err)
		}
		if v, err := payload.ParseJSON(asJSON); err != nil || v.Kind() != payload.Object {
			t.Fatalf("%q: %v", asJSON, err)
		}
	})
}
