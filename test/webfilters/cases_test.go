//go:build e2e

package webfilters

import (
	"encoding/json"
	"fmt"
	"slices"
)

// on is a halt without a redirect.
func on(redirect string) halt { return halt{on: true, redirect: redirect} }

// settingsOfAnyKind are settings of exceptions with missing, extra or wrong fields.
var settingsOfAnyKind = []string{
	`"a reason, \u201cquoted\u201d"`, `""`, `{}`, `{"message": null}`, `{"redirect_to": "/x"}`, `{"foo": 1}`, `null`, `7`, `["x"]`, `true`,
	`{"content": 5, "status": "x"}`, plain,
}

// filterCases are cases for each filter: its data, its exceptions, the switches of a row, and
// several rows.
func filterCases() []testCase {
	var list []testCase
	for i := range filters {
		f := &filters[i]
		add := func(name string, rows ...row) { list = append(list, f.encoded(name, len(list), rows)) }
		for n, d := range f.data {
			list = append(list, f.everyEncoding(fmt.Sprintf("data-%d", n), row{answer: data(d)})...)
			add(fmt.Sprintf("data-%d-in-403", n), row{answer: data(d).with("403 Forbidden")})
			add(fmt.Sprintf("data-%d-disabled", n), row{answer: data(d), noData: true})
			next := f.data[(n+1)%len(f.data)]
			add(fmt.Sprintf("data-%d-merged", n), row{answer: data(d)}, row{answer: data(next)})
		}
		for n, v := range f.variants {
			for _, c := range f.everyEncoding(fmt.Sprintf("variant-%d", n), row{answer: data(f.data[0])}) {
				c.arguments = json.RawMessage(v)
				list = append(list, c)
			}
		}
		for n, e := range f.exceptions {
			name := fmt.Sprintf("%s-%d", e.class, n)
			add(name, row{answer: raises(e.class, e.settings)})
			add(name+"-disabled", row{answer: raises(e.class, e.settings), noHalt: true}, row{answer: data(f.data[0])})
			add(name+"-later", row{answer: data(f.data[0])}, row{answer: raises(e.class, e.settings), noData: true}, row{answer: says(`{}`)})
			add(name+"-in-500", row{answer: raises(e.class, e.settings).with("500 Oops")})
			last := f.exceptions[(n+1)%len(f.exceptions)]
			add(name+"-merged", row{answer: raises(e.class, `"first"`)}, row{answer: raises(last.class, last.settings)})
			for m, s := range settingsOfAnyKind {
				add(fmt.Sprintf("%s-settings-%d", name, m), row{answer: raises(e.class, s)})
			}
		}
		for _, class := range []string{"Nope", "", "PreventLogin", "RedirectToPage", "RenderCustomResponse", "RenderInvalidTemplate"} {
			if !slices.ContainsFunc(f.exceptions, func(e exception) bool { return e.class == class }) {
				add("not-its-exception-"+class, row{answer: raises(class, `"x"`)})
			}
		}
		list = append(list, f.haltCases(len(list))...)
	}
	return list
}

// haltCases are cases in which a status or a request exception halts, or could.
func (f *filter) haltCases(n int) []testCase {
	var list []testCase
	add := func(name string, rows ...row) { list = append(list, f.encoded("halt-"+name, n+len(list), rows)) }
	good := row{answer: data(f.data[0])}
	forbidden, broken := data(f.data[0]).with("403 Forbidden"), data(f.data[0]).with("503 Service Unavailable")
	gone := answer{fault: refused}

	add("4xx", row{answer: forbidden, on4xx: on("https://r.example.edu/4")}, good)
	add("4xx-later", good, row{answer: forbidden, on4xx: on("/4"), on5xx: on("/5"), onFailure: on("/x")}, good)
	add("4xx-no-redirect", row{answer: forbidden, on4xx: on("")})
	add("4xx-disabled", row{answer: forbidden, on4xx: on("/4"), noHalt: true, noData: true})
	add("4xx-other-switch", row{answer: forbidden, on4xx: halt{redirect: "/4"}, on5xx: on("/5")}, good)
	add("5xx", row{answer: broken, on5xx: on("https://r.example.edu/5"), on4xx: on("/4")}, good)
	add("5xx-no-redirect", row{answer: broken, on5xx: on("")})
	add("5xx-other-switch", row{answer: broken, on4xx: on("/4"), onFailure: on("/x")}, good)
	add("exception-before", row{answer: says(`{"exception": {"` + f.halt + `": "x"}}`)}, row{answer: broken, on5xx: on("/5")})
	add("failure", row{answer: gone, onFailure: on("https://r.example.edu/x")}, good)
	add("failure-no-redirect", good, row{answer: gone, onFailure: on("")}, good)
	add("failure-disabled", row{answer: gone, onFailure: on("/x"), noHalt: true}, good)
	add("failure-other-switch", row{answer: gone, on4xx: on("/4"), on5xx: on("/5")}, good)
	add("hangup", row{answer: answer{fault: hangup}, onFailure: on("/x")}, good)
	return list
}

// encoded returns a case in the n-th encoding, so that neighbouring cases differ: the plugin's row
// in JSON with rows of both kinds, or everything as forms.
func (f *filter) encoded(name string, n int, rows []row) testCase {
	c := testCase{name: f.name + "/" + name, filter: f.name, rows: slices.Clone(rows), form: n%3 == 2}
	for i := range c.rows {
		c.rows[i].form = c.form || (i+n)%3 == 1
	}
	return c
}

// everyEncoding returns a case in every encoding.
func (f *filter) everyEncoding(name string, r row) []testCase {
	list := make([]testCase, 3)
	for n, suffix := range []string{"json", "json-to-form", "form"} {
		list[n] = f.encoded(name+"-"+suffix, n, []row{r})
	}
	return list
}
