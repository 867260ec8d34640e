//go:build e2e

package webfilters

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// addresses are URLs as people write them: what is called, and how messages show it.
var addresses = []struct {
	credential, after string
	differs           string
}{
	{after: "/?a=b&c=%20d+e"},
	{after: "/ä/ö?ü=ß"},
	{after: "/a b?c d"},
	{after: "/x#fragment"},
	{after: "/a;b=c,d!$'()*@:|"},
	{after: `/"<>\^{}` + "`"},
	{after: "/%2F/%20"},
	{credential: "user:pass"},
	{credential: "u%40x:p%3Aq"},
	{credential: "user:"},
	{after: "?", differs: "an empty query stays"},
	{after: "/%7Euser/%e4", differs: "escapes stay as they are written"},
	{after: "/y/../z/./", differs: "dots in a path stay"},
	{after: "/[]", differs: "brackets in a path stay"},
	{after: "?a[]=1&b=%E4", differs: "brackets in a query stay"},
	{after: "/100%", differs: "a URL that does not parse cannot be called, and counts as a request that failed"},
}

func addressCases() []testCase {
	list := make([]testCase, len(addresses))
	for n, a := range addresses {
		good := row{credential: a.credential, after: a.after, answer: data(`{"mode": "verified"}`)}
		halting := good
		halting.answer, halting.on4xx = says("{}").with("404 Not Found"), on("/4")
		list[n] = testCase{
			name: fmt.Sprintf("addresses/%d", n), filter: "CourseEnrollmentStarted", rows: []row{good, halting}, differs: a.differs,
		}
	}
	return list
}

// known are answers that the dispatcher treats differently from the plugin, and why.
var known = map[string]struct {
	answer answer
	reason string
}{
	"redirect": {
		answer{status: "302 Found", header: []string{"Location: /1"}},
		"redirects are not followed: a row's answer must not decide what is called",
	},
	"redirect-post": {answer{status: "307 Temporary Redirect", header: []string{"Location: /1"}}, "the same"},
	"surrogate":     {data(`{"url": "\ud800"}`), "half of a surrogate pair has no UTF-8, and becomes U+FFFD"},
	"deep": {
		data(`{"url": ` + strings.Repeat("[", 600) + strings.Repeat("]", 600) + `}`), "JSON is read to a depth of 500; deeper is no JSON",
	},
	"long": {
		data(`{"url": "` + strings.Repeat("x", 1<<20) + `"}`), "an answer of more than 1 MiB is none",
	},
	"digits": {
		data(`{"url": ` + strings.Repeat("9", 4301) + `}`), "Python raises a ValueError of an integer this long, here it is no JSON",
	},
	"guessed": {
		answer{header: []string{"X-Nothing: 1"}, body: "{\"data\": {\"url\": \"gr\xf6\xdfer f\xfcr dich und mich, sch\xf6n w\xe4re es\"}}"},
		"without a Content-Type the plugin guesses how the text is encoded, here it is UTF-8",
	},
	"cut-headers": {answer{raw: "HTTP/1.1 200 OK\r\nContent-Ty"}, "Python takes an answer that breaks off in its headers for an empty one"},
	"unasked-zip": {
		answer{raw: "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n{\"data\": {\"url\": 1}}"},
		"nothing but plain bodies is asked for, and what comes is read as one",
	},
}

func knownCases() []testCase {
	var list []testCase
	for _, name := range slices.Sorted(maps.Keys(known)) {
		k := known[name]
		rows := []row{{answer: k.answer, onFailure: on("/x")}, {answer: data(`{"view": 1}`)}}
		list = append(list, testCase{name: "known/" + name, filter: "RenderXBlockStarted", rows: rows, differs: k.reason})
	}
	return list
}
