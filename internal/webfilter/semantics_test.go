package webfilter

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/sender/sendertest"
)

// semantics is what the plugin 22 did with the answers of its rows; see testdata/semantics.json.
type semantics struct {
	Filter string
	Hooks  []struct {
		P                          string
		DisableFiltering           bool   `json:"disable_filtering"`
		DisableHalt                bool   `json:"disable_halt"`
		HaltOn4xx                  bool   `json:"halt_on_4xx"`
		RedirectOn4xx              string `json:"redirect_on_4xx"`
		HaltOn5xx                  bool   `json:"halt_on_5xx"`
		RedirectOn5xx              string `json:"redirect_on_5xx"`
		HaltOnRequestException     bool   `json:"halt_on_request_exception"`
		RedirectOnRequestException string `json:"redirect_on_request_exception"`
	}
	Responses map[string]json.RawMessage
	Result    map[string]string
	Raised    map[string]string
	Calls     [][2]string
}

const (
	refuse      = "refuse"
	capturedAt  = "http://127.0.0.1:34171" // the endpoint at the time
	refusedAt   = "http://127.0.0.1:1"     // nobody listens there
	pythonsText = "HTTPConnectionPool("    // the message of a request exception is Python's own
)

func TestSemantics(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/semantics.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases map[string]semantics
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	caller := sendertest.New(t)
	var answers strings.Builder
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		c := cases[name]
		server := newEndpoint(t, func(w http.ResponseWriter, path string) { c.answer(t, w, path) })
		var rows []rule.WebfilterRow
		for _, h := range c.Hooks {
			row := rule.WebfilterRow{WebfilterFlags: rule.WebfilterFlags{
				DisableFiltering: h.DisableFiltering, DisableHalt: h.DisableHalt, HaltOn4xx: h.HaltOn4xx, RedirectOn4xx: h.RedirectOn4xx,
				HaltOn5xx: h.HaltOn5xx, RedirectOn5xx: h.RedirectOn5xx, HaltOnRequestException: h.HaltOnRequestException,
				RedirectOnRequestException: h.RedirectOnRequestException,
			}}
			row.URL = server.URL + h.P
			if string(c.Responses[h.P]) == `"`+refuse+`"` {
				row.URL = refusedAt + h.P
			}
			rows = append(rows, row)
		}
		e := newEngine(t, Options{Rules: compiled(t, c.Filter, rows...), Caller: caller})
		out, err := e.Run(t.Context(), request(t, c.Filter))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		answer := strings.ReplaceAll(text(out, c.Filter), server.URL, capturedAt)
		fmt.Fprintf(&answers, "%s: %s\n", name, answer)
		var calls [][2]string
		for _, got := range server.requests() {
			calls = append(calls, [2]string{"POST", got.path})
		}
		if !slices.Equal(calls, c.Calls) {
			t.Errorf("%s: calls %v, want %v", name, calls, c.Calls)
		}
		c.check(t, name, answer)
	}
	golden(t, "semantics.golden", answers.String())
}

func (c *semantics) answer(t *testing.T, w http.ResponseWriter, path string) {
	var status int
	var header map[string]string
	var body string
	if err := json.Unmarshal(c.Responses[path], &[]any{&status, &header, &body}); err != nil {
		t.Error(err)
	}
	w.Header()["Content-Type"] = nil // as it was: net/http would find one out
	for name, value := range header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}

// check does with an answer what the plugin's handlers do with one, and compares with what came of the rows themselves.
func (c *semantics) check(t *testing.T, name, answer string) {
	t.Helper()
	var said struct {
		Data      map[string]any
		Exception map[string]any
	}
	if err := json.Unmarshal([]byte(answer), &said); err != nil {
		t.Fatal(err)
	}
	if c.Raised == nil {
		for class := range said.Exception {
			if class != "Nope" { // which no handler looks for
				t.Errorf("%s: an exception %s", name, class)
			}
		}
		for key, value := range said.Data {
			if shown := fmt.Sprint(value); key != "context" && shown != c.Result[key] {
				t.Errorf("%s: %s is %s, want %s", name, key, shown, c.Result[key])
			}
		}
		if want := c.Result["mode"]; want != "" && want != "audit" && said.Data["mode"] != want { // audit is what went in
			t.Errorf("%s: mode %v, want %s", name, said.Data["mode"], want)
		}
		return
	}
	_, class, _ := strings.Cut(c.Raised["class"], ".")
	settings, raised := said.Exception[class]
	if !raised || len(said.Exception) != 1 {
		t.Fatalf("%s: %s, want %s", name, answer, class)
	}
	got := map[string]string{"message": "Reason not specified", "redirect_to": "", "status_code": "None"}
	switch settings := settings.(type) {
	case string:
		got["message"] = settings
	case map[string]any:
		got["message"] = ""
		for key, value := range settings {
			got[key] = fmt.Sprint(value)
		}
	}
	if class == "RenderCustomResponse" {
		if got["content"] != "hi" || got["status"] != "202" {
			t.Errorf("%s: %v", name, got)
		}
		return
	}
	for key, want := range c.Raised {
		if key != "class" && got[key] != want && !strings.HasPrefix(want, pythonsText) {
			t.Errorf("%s: %s is %q, want %q", name, key, got[key], want)
		}
	}
}

// TestSameBytesAsThePlugin sends the plugin's captured requests on.
func TestSameBytesAsThePlugin(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/captured/filter_*.json")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	server := newEndpoint(t, func(http.ResponseWriter, string) {})
	caller := sendertest.New(t)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var c struct {
			Event string
			JSON  struct{ Body string } `json:"json"`
			Form  struct{ Body string }
		}
		if err := json.Unmarshal(raw, &c); err != nil {
			t.Fatal(err)
		}
		inJSON, inForm := rule.WebfilterRow{}, rule.WebfilterRow{}
		inJSON.URL, inForm.URL, inForm.Form = server.URL+"/json", server.URL+"/form", true
		e := newEngine(t, Options{Rules: compiled(t, c.Event, inJSON, inForm, inJSON), Caller: caller})
		toJSON := received{"/json", delivery.FormatJSON.ContentType(), "1", c.JSON.Body}
		toForm := received{"/form", delivery.FormatForm.ContentType(), "1", c.Form.Body}
		flat := received{"/json", delivery.FormatJSON.ContentType(), "1", flattened(t, c.Form.Body)}
		for _, sent := range []struct {
			contentType, body string
			want              []received
		}{
			{delivery.FormatJSON.ContentType(), c.JSON.Body, []received{toJSON, toForm, toJSON}},
			{delivery.FormatForm.ContentType(), c.Form.Body, []received{flat, toForm, flat}},
		} {
			q, err := ParseRequest(c.Event, sent.contentType, []byte(sent.body))
			if err != nil {
				t.Fatal(err)
			}
			before := len(server.requests())
			if _, err := e.Run(t.Context(), q); err != nil {
				t.Fatal(err)
			}
			if got := server.requests()[before:]; !slices.Equal(got, sent.want) {
				t.Errorf("%s as %s: got\n%v\nwant\n%v", file, sent.contentType, got, sent.want)
			}
		}
	}
}

// flattened is the object of a form's fields.
func flattened(t *testing.T, form string) string {
	t.Helper()
	fields, err := parseForm(form)
	if err != nil {
		t.Fatal(err)
	}
	for i := range fields.Len() {
		if fields.Item(i).Kind() != payload.String {
			t.Errorf("%s is no text", fields.Key(i))
		}
	}
	return string(payload.AppendJSON(nil, fields))
}
