//go:build e2e

package webfilters

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf16"
)

// bodies are answers of endpoints that should be JSON objects.
var bodies = []string{
	// Not JSON, or not an object.
	``, ` `, `<html>no</html>`, `[1]`, `null`, `true`, `"text"`, `5`, `NaN`, `{`, `{}}`, `{} {}`, `{"data": {"url": "x"}} trailing`,
	`{'data': {}}`,
	`{"data": {"url": "x"},}`, "\ufeff{\"data\": {\"url\": \"x\"}}", "\u00a0{\"data\": {\"url\": \"x\"}}", "\v{}", `{"data": {"url": 01}}`,
	`{"data": {"url": 1.}}`, `{"data": {"url": .5}}`, `{"data": {"url": +1}}`, `{"data": {"url": -}}`, `{"data": {"url": 0x10}}`,
	`{"data": {"url": nan}}`, `{"data": {"url": "a` + "\t" + `b"}}`, `{"data": {"url": "\x41"}}`, `{"data": {"url": "\u12"}}`,
	`{"data": {url: 1}}`, `{1: 2}`, `{"data" {"url": 1}}`, `{"data": {"url": undefined}}`, `{"data": {"url": Infini}}`, `// {}`,
	// Valid JSON objects.
	`{}`, `  {"data" : {"url":"x"} }` + "\r\n\t ", `{"data": {}}`, `{"data": null, "exception": null}`, `{"data": [1], "exception": "x"}`,
	`{"data": "x", "exception": [{}]}`, `{"data": 1, "exception": {}}`, `{"DATA": {"url": 1}, "Data": {"url": 2}}`, `{"url": "not in data"}`,
	`{"data": {"url": 1}, "data": {"url": 2, "org": 3}}`, `{"data": {"url": 1, "org": 2, "url": 3}}`, `{"data": {"url": 1}, "data": null}`,
	`{"data": {"url": 12345678901234567890123456789012345678901234567890, "org": -9223372036854775809}}`,
	`{"data": {"url": 1.0, "org": [1e5, 1E400, -1e400, 0.1, 1e22, 1e16, 123456789.123456789, 5e-324, 1e-400, -0.0, -0, 0e0]}}`,
	`{"data": {"url": NaN, "org": [Infinity, -Infinity]}}`, `{"data": {"url": "\ud83d\ude00\u0000\u001f\u2028\"\\\/\b\f"}}`,
	`{"data": {"url": "é😀` + "\u007f\u2028" + `", "\u0000": 1, "": 2, "é": {"": null}}}`, `{"data": {"url": [[], {}, [[{"a": []}]]]}}`,
	`{"data": {"event_metadata": 1, "context": {"z": 1, "a": 2, "m": 3}, "mode": 1, "url": {"z": 1, "a": 2}}}`,
	`{"more": {"data": {"url": 1}}, "data": {"url": true}}`,
	`{"data": {"url": ` + strings.Repeat("9", 4300) + `}}`, `{"data": {"url": "` + strings.Repeat("long ", 20000) + `"}}`,
	`{"data": {"url": ` + strings.Repeat("[", 450) + strings.Repeat("]", 450) + `}}`,
}

// charsets are Content-Type headers with a body, and the reason if the dispatcher reads it
// differently.
var charsets = []struct{ header, body, differs string }{
	{"", `{"data": {"url": "x"}}`, ""},
	{"", `{"data": {"url": "Zoë 😀 größer, mit genug Text zum Raten für alle"}}`, ""},
	{"Content-Type:", `{"data": {"url": "x"}}`, ""},
	{"Content-Type: application/json", "{\"data\": {\"url\": \"ü\"}}", ""},
	{"Content-Type: application/json", "{\"data\": {\"url\": \"broken \xff\xfe\xc3\"}}", ""},
	{"Content-Type: application/json", "{\"data\": {\"url\": \"\xed\xa0\x80 \xf4\x90\x80\x80 \xc0\xaf \xe2\x82\"}}", ""},
	{"Content-Type: application/json; charset=utf-8", "{\"data\": {\"url\": \"ü\"}}", ""},
	{"Content-Type: application/json;charset=\"UTF-8\"", "{\"data\": {\"url\": \"ü\"}}", ""},
	{"Content-Type: application/json; charset='utf-8'", "{\"data\": {\"url\": \"ü\"}}", ""},
	{"Content-Type: application/json; charset=ISO-8859-1", "{\"data\": {\"url\": \"\xfc\x80\"}}", ""},
	{"Content-Type: application/json; charset=latin1", "{\"data\": {\"url\": \"\xfc\x80\"}}", ""},
	{"Content-Type: application/json; charset=us-ascii", "{\"data\": {\"url\": \"\xfc\"}}", ""},
	{"Content-Type: application/json; charset=windows-1252", "{\"data\": {\"url\": \"\x80\xfc\x81\"}}", ""},
	{"Content-Type: application/json; charset=utf-16", littleEndian("\ufeff{\"data\": {\"url\": \"ü😀\"}}"), ""},
	{"Content-Type: application/json; charset=utf-16le", littleEndian("{\"data\": {\"url\": \"ü😀\"}}"), ""},
	{"Content-Type: application/json; charset=UTF-16LE", littleEndian("{\"data\": {\"url\": \"ü\"}}") + "x", ""},
	{"Content-Type: application/json; charset=koi8-r", "{\"data\": {\"url\": \"\xc1\"}}", ""},
	{"Content-Type: application/json; charset=shift_jis", "{\"data\": {\"url\": \"\x83\x65\"}}", ""},
	{"Content-Type: application/json; charset=gb18030", "{\"data\": {\"url\": \"\xd6\xd0\"}}", ""},
	{"Content-Type: application/json; charset=cp1252", "{\"data\": {\"url\": \"\x80\x81\"}}", ""},
	{"Content-Type: application/json; charset=iso-8859-2", "{\"data\": {\"url\": \"\xb1\x80\"}}", asBrowsers},
	{"Content-Type: application/json; charset=ascii", "{\"data\": {\"url\": \"ü\"}}", ""},
	{"Content-Type: application/json; charset=cp850", "{\"data\": {\"url\": \"\x81\"}}", asBrowsers},
	{"Content-Type: application/json; charset=utf-7", "{\"data\": {\"url\": \"+APw-\"}}", asBrowsers},
	{"Content-Type: application/json; charset=utf8", "{\"data\": {\"url\": \"ü\xff\"}}", ""},
	{"Content-Type: application/json; charset=utf_8", "{\"data\": {\"url\": \"ü\xff\"}}", ""},
	{"Content-Type: application/json; charset=l1", "{\"data\": {\"url\": \"\xfc\x80\"}}", ""},
	{"Content-Type: application/json; charset=base64", "{}", ""},
	{"Content-Type: application/json; charset=utf-8; charset=latin-1", "{\"data\": {\"url\": \"ü\"}}", ""},
	{"Content-Type: application/json; x; charset", "{\"data\": {\"url\": \"ü\"}}", ""},
	{"Content-Type: application/json; charset=utf-8-sig", "\xef\xbb\xbf{\"data\": {\"url\": \"ü\"}}", ""},
	{"Content-Type: application/json; charset=nonsense", "{\"data\": {\"url\": \"ü\"}}", ""},
	{"Content-Type: application/json; charset=", "{\"data\": {\"url\": \"ü\"}}", ""},
	{"Content-Type: APPLICATION/JSON; CHARSET=ISO-8859-15", "{\"data\": {\"url\": \"\xa4\"}}", ""},
	{"Content-Type: text/html", "{\"data\": {\"url\": \"ü\"}}", ""},
	{"Content-Type: text/plain; charset=utf-8", "{\"data\": {\"url\": \"ü\"}}", ""},
	{"Content-Type: text/json", "{\"data\": {\"url\": \"\xfc\"}}", ""},
	{"Content-Type: application/problem+json", `{"data": {"url": "ascii only"}}`, ""},
	{"Content-Type: application/octet-stream", `{"data": {"url": "ascii only"}}`, ""},
	{"Content-Type: application/vnd.api+json; charset=utf-8; profile=x", "{\"data\": {\"url\": \"ü\"}}", ""},
}

// asBrowsers is why some charsets are read differently.
const asBrowsers = "the names and tables of charsets are those of browsers, not of Python; UTF-8 and ISO-8859-1 are Python's"

// littleEndian returns a text in little-endian UTF-16.
func littleEndian(text string) string {
	var b []byte
	for _, unit := range utf16.Encode([]rune(text)) {
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	return string(b)
}

// statuses are codes with phrases: common ones, and some that only old or broken servers send.
var statuses = []string{
	"200 ", "200", "201 Created", "202 Accepted", "203 x", "226 IM Used", "299 Odd", "300 Multiple Choices", "301 Moved", "304 Not Modified",
	"307 Temporary Redirect", "399 x", "400 Bad Request", "401 Unauthorized", "404 Not Found at  all", "408 Request Timeout",
	"410 Gone", "418 I'm a teapot", "422 (Unprocessable)", "429 Too Many Requests", "499 ", "499",
	"451 Gr\xfcnde \xe4", "500 Internal Server Error", "502 Bad Gateway",
	"503 Service Unavailable", "504 Gateway Timeout", "599 last", "600 beyond", "999 x",
}

// failures are requests without a proper answer.
var failures = map[string]answer{
	"refused": {fault: refused}, "hangup": {fault: hangup}, "reset": {fault: reset},
	"no-http":       {raw: "garbage\r\n\r\n"},
	"no-status":     {raw: "HTTP/1.1 x OK\r\nContent-Length: 0\r\n\r\n"},
	"cut-body":      {raw: "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{\"data\": {\"url\": 1}}"},
	"cut-chunk":     {raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{\"data\": {\"url\": 1}}"},
	"wrong-chunk":   {raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n{}\r\n0\r\n\r\n"},
	"cut-forbidden": {raw: "HTTP/1.1 403 Forbidden\r\nContent-Length: 50\r\n\r\n{}"},
}

// wires are good answers that look unusual.
var wires = map[string]answer{
	"until-the-end": {raw: "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"data\": {\"url\": 1}}"},
	"http-1.0":      {raw: "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{\"data\": {\"url\": 1}}"},
	"chunked": {raw: "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n" +
		"5;x=y\r\n{\"dat\r\nf\r\na\": {\"url\": 1}}\r\n0\r\nTrailer: 1\r\n\r\n"},
	"no-content": {raw: "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"},
	"continue-first": {raw: "HTTP/1.1 100 Continue\r\n\r\n" +
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 20\r\n\r\n{\"data\": {\"url\": 1}}"},
	"zipped":     {body: `{"data": {"url": "` + strings.Repeat("z", 1000) + `"}}`, gzip: true},
	"lower-case": {header: []string{"content-type:application/json;charset=utf-8", "x-odd: \xfc"}, body: `{"data": {"url": "ü"}}`},
}

// answerCases are what endpoints may answer, with and without each halt switch, at a filter that
// applies any data and at one that halts.
func answerCases() []testCase {
	var list []testCase
	add := func(name string, a answer, differs string) {
		n := len(list)
		switched := row{answer: a, on4xx: on("/4"), on5xx: on("/5"), onFailure: on("/x")}
		for _, c := range []testCase{
			(&filter{name: "LMSPageURLRequested"}).encoded(name, n, []row{{answer: a}}),
			(&filter{name: "RenderXBlockStarted"}).encoded(name+"-halting", n+1, []row{switched, {answer: data(`{"view": 1}`)}}),
			(&filter{name: "RenderXBlockStarted"}).encoded(name+"-between", n+2, []row{
				{answer: data(`{"url": 0, "first": 1, "context": {"a": 1}}`)}, {answer: a}, {answer: says(`{"data": {"last": 1}}`)},
			}),
		} {
			c.name, c.differs = "answers/"+c.name, differs
			list = append(list, c)
		}
	}
	for n, body := range bodies {
		add(fmt.Sprintf("body-%d", n), says(body), "")
	}
	for n, c := range charsets {
		header := []string{"X-Nothing: 1"}
		if c.header != "" {
			header = []string{c.header}
		}
		add(fmt.Sprintf("charset-%d", n), answer{header: header, body: c.body}, c.differs)
	}
	for n, status := range statuses {
		add(fmt.Sprintf("status-%d", n), data(`{"url": "of a status"}`).with(status), "")
	}
	for _, name := range slices.Sorted(maps.Keys(failures)) {
		add("failure-"+name, failures[name], "")
	}
	for _, name := range slices.Sorted(maps.Keys(wires)) {
		add("wire-"+name, wires[name], "")
	}
	return append(list, silentCases()...)
}

// silentCases wait until the plugin gives up, after 10 s. The dispatcher's rows give up earlier.
func silentCases() []testCase {
	quiet := row{answer: answer{fault: silent}, onFailure: on("/x")}
	unheeded := row{answer: answer{fault: silent}, form: true}
	good := row{answer: data(`{"mode": "verified"}`)}
	return []testCase{
		{name: "answers/silent-halting", filter: "CourseEnrollmentStarted", rows: []row{good, quiet, good}, timeout: time.Second},
		{name: "answers/silent-between", filter: "CourseEnrollmentStarted", rows: []row{good, unheeded, good}, timeout: time.Second},
	}
}
