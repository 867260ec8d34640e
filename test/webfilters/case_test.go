//go:build e2e

package webfilters

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// testCase is a call of a filter that has rows.
type testCase struct {
	name   string
	filter string
	// arguments has, by argument name, JSON objects to merge into the default or values to replace
	// it.
	arguments json.RawMessage
	rows      []row
	// form says that the plugin's row at the dispatcher is form-encoded; then all rows are.
	form bool
	// timeout is in the options of the dispatcher's rows, unless zero.
	timeout time.Duration
	// differs says why the outcome differs, if that is known and documented; "": it must not.
	differs string
	// raises is the class, without module, of the exception that the plugin raised when the case
	// was recorded, "-" for none; "": not recorded.
	raises string
}

// silences counts the rows whose endpoint never answers.
func (c *testCase) silences() int {
	n := 0
	for i := range c.rows {
		if c.rows[i].answer.fault == silent {
			n++
		}
	}
	return n
}

// String shows the case for debugging.
func (c *testCase) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "form %t, arguments %s", c.form, c.arguments)
	for i := range c.rows {
		fmt.Fprintf(&b, "\n\trow %d: %v", i, &c.rows[i])
	}
	return b.String()
}

// row is a row of the plugin's table, with what its endpoint answers.
type row struct {
	answer     answer
	form       bool
	noData     bool   // disable_filtering
	noHalt     bool   // disable_halt
	on4xx      halt   // halt_on_4xx with its redirect
	on5xx      halt   // halt_on_5xx
	onFailure  halt   // halt_on_request_exception
	after      string // appended to the URL
	credential string // user and password in the URL
}

// halt is a halt switch with its redirect.
type halt struct {
	on       bool
	redirect string
}

func (r *row) String() string {
	return fmt.Sprintf("form %t, no data %t, no halt %t, 4xx %v, 5xx %v, failure %v, %s@…%s, answer %q", r.form, r.noData, r.noHalt, r.on4xx,
		r.on5xx, r.onFailure, r.credential, r.after, r.answer.wire(true))
}

// columns are the columns of a row by name, as Django has them.
type columns map[string]any

// columns returns the row's columns, with the URL of its endpoint.
func (r *row) columns(url string) columns {
	return columns{
		"webhook_url": url, "use_www_form_encoding": r.form, "disable_filtering": r.noData, "disable_halt": r.noHalt,
		"halt_on_4xx": r.on4xx.on, "redirect_on_4xx": r.on4xx.redirect, "halt_on_5xx": r.on5xx.on, "redirect_on_5xx": r.on5xx.redirect,
		"halt_on_request_exception": r.onFailure.on, "redirect_on_request_exception": r.onFailure.redirect,
	}
}

// fault is a way in which an endpoint fails to answer.
type fault string

const (
	none    fault = ""
	refused fault = "refused" // nothing listens
	hangup  fault = "hangup"  // closes the connection instead of answering
	reset   fault = "reset"   // the same, with a RST
	silent  fault = "silent"  // takes the request and never answers
)

// answer is what an endpoint sends back.
type answer struct {
	fault  fault
	status string   // code and reason phrase; "": 200 OK
	header []string // whole lines; nil: JSON
	body   string
	gzip   bool   // if the request accepts it
	raw    string // instead of an answer
}

// wire returns the bytes of the answer.
func (a *answer) wire(mayZip bool) []byte {
	switch {
	case a.fault != none:
		return []byte(a.fault)
	case a.raw != "":
		return []byte(a.raw)
	}
	status, header, body := a.status, a.header, []byte(a.body)
	if status == "" {
		status = "200 OK"
	}
	if header == nil {
		header = []string{"Content-Type: application/json"}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %s\r\n", status)
	for _, line := range header {
		b.WriteString(line + "\r\n")
	}
	if a.gzip && mayZip {
		var zipped bytes.Buffer
		w := gzip.NewWriter(&zipped)
		_, _ = w.Write(body) // writes to a buffer do not fail
		_ = w.Close()
		body = zipped.Bytes()
		b.WriteString("Content-Encoding: gzip\r\n")
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\nConnection: close\r\n\r\n", len(body))
	b.Write(body)
	return b.Bytes()
}

// says returns an answer of 200 with this JSON.
func says(body string) answer { return answer{body: body} }

// data returns an answer with this data.
func data(object string) answer { return says(`{"data": ` + object + `}`) }

// raises returns an answer that asks for an exception.
func raises(class, settings string) answer {
	return says(fmt.Sprintf(`{"data": {}, "exception": {%q: %s}}`, class, settings))
}

// with returns the answer with another status.
func (a answer) with(status string) answer {
	a.status = status
	return a
}
