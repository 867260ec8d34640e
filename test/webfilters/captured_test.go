//go:build e2e

package webfilters

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// captured is a case recorded with the plugin.
type captured struct {
	Filter string
	Hooks  []struct {
		Path              string `json:"p"`
		NoHalt            bool   `json:"disable_halt"`
		NoData            bool   `json:"disable_filtering"`
		On4xx             bool   `json:"halt_on_4xx"`
		Redirect4xx       string `json:"redirect_on_4xx"`
		On5xx             bool   `json:"halt_on_5xx"`
		Redirect5xx       string `json:"redirect_on_5xx"`
		OnFailure         bool   `json:"halt_on_request_exception"`
		RedirectOnFailure string `json:"redirect_on_request_exception"`
	}
	Responses map[string]json.RawMessage // "refuse", or status, headers and body
	Raised    struct{ Class string }
}

// capturedCases are the cases of testdata, each as JSON and as form.
func capturedCases(t *testing.T) []testCase {
	t.Helper()
	text, err := os.ReadFile("testdata/filter_semantics.json")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]captured
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	var list []testCase
	for _, name := range slices.Sorted(maps.Keys(all)) {
		c := all[name]
		for n, suffix := range []string{"json", "json-to-form", "form"} {
			one := testCase{name: "captured/" + name + "-" + suffix, filter: c.Filter, form: n == 2, raises: cmp.Or(c.Raised.Class, "-")}
			for _, h := range c.Hooks {
				one.rows = append(one.rows, row{
					answer: capturedAnswer(t, c.Responses[h.Path]), form: n > 0, noHalt: h.NoHalt, noData: h.NoData,
					on4xx: halt{h.On4xx, h.Redirect4xx}, on5xx: halt{h.On5xx, h.Redirect5xx}, onFailure: halt{h.OnFailure, h.RedirectOnFailure},
				})
			}
			list = append(list, one)
		}
	}
	return list
}

func capturedAnswer(t *testing.T, text json.RawMessage) answer {
	t.Helper()
	if string(text) == `"refuse"` {
		return answer{fault: refused}
	}
	var status int
	var header map[string]string
	a := answer{header: []string{}}
	if err := json.Unmarshal(text, &[]any{&status, &header, &a.body}); err != nil {
		t.Fatalf("the answer %s: %v", text, err)
	}
	a.status = fmt.Sprintf("%d %s", status, phrases[status])
	for name, value := range header {
		a.header = append(a.header, name+": "+strings.TrimSpace(value))
	}
	return a
}

// phrases are the reason phrases of the captured statuses.
var phrases = map[int]string{200: "OK", 403: "Forbidden", 404: "Not Found", 500: "Internal Server Error", 503: "Service Unavailable"}
