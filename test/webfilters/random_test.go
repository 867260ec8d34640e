//go:build e2e

package webfilters

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
)

// randomCases returns random mixtures of filters, arguments, switches, answers and numbers of rows.
// The n-th case of a seed is always the same.
func randomCases(seed uint64, count int) []testCase {
	list := make([]testCase, count)
	for n := range list {
		g := &generator{rand.New(rand.NewPCG(seed, uint64(n)))}
		list[n] = g.testCase(fmt.Sprintf("random/%d-%d", seed, n))
	}
	return list
}

type generator struct{ *rand.Rand }

// oneIn returns true once in n times.
func (g *generator) oneIn(n int) bool { return g.IntN(n) == 0 }

func pick[T any](g *generator, list []T) T { return list[g.IntN(len(list))] }

func (g *generator) testCase(name string) testCase {
	f := &filters[g.IntN(len(filters))]
	c := testCase{name: name + "-" + f.name, filter: f.name, form: g.oneIn(3)}
	if strings.Contains(strings.Join(f.data, ""), `"context"`) {
		c.arguments = json.RawMessage(`{"context": ` + g.object(4) + `}`)
	}
	for range 1 + g.IntN(5) {
		c.rows = append(c.rows, row{
			answer: g.answer(f), form: c.form || g.oneIn(2), noData: g.oneIn(6), noHalt: g.oneIn(6),
			on4xx: g.halt(), on5xx: g.halt(), onFailure: g.halt(),
		})
	}
	return c
}

func (g *generator) halt() halt {
	return halt{on: g.oneIn(3), redirect: pick(g, []string{"", "", "/r", "https://r.example.edu/ü?a=b"})}
}

func (g *generator) answer(f *filter) answer {
	a := answer{body: g.body(f)}
	switch g.IntN(20) {
	case 0:
		return answer{fault: pick(g, []fault{refused, hangup, reset})}
	case 1:
		a.body = pick(g, bodies)
	case 2:
		if c := pick(g, charsets); c.differs == "" && c.header != "" {
			a.header, a.body = []string{c.header}, c.body
		}
	case 3:
		a.gzip = true
	case 4:
		a.body = g.spoilt(a.body)
	}
	if g.oneIn(4) {
		a.status = pick(g, []string{"201 Created", "400 Bad Request", "403 Nö", "404 Not Found", "500 ", "503 Service Unavailable", "502"})
	}
	return a
}

// body returns an answer that is mostly of the right kind.
func (g *generator) body(f *filter) string {
	var members []string
	if !g.oneIn(4) {
		members = append(members, `"data":`+g.space()+g.data(f))
	}
	if g.oneIn(3) {
		members = append(members, g.space()+`"exception" : `+g.exceptions(f))
	}
	if g.oneIn(4) {
		members = append(members, g.str()+":"+g.value(2))
	}
	g.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	return g.space() + "{" + strings.Join(members, ",") + "}" + g.space()
}

func (g *generator) data(f *filter) string {
	switch known := pick(g, f.data); g.IntN(6) {
	case 0:
		return g.object(3)
	case 1:
		return g.value(1)
	case 2:
		if known != "{}" {
			return "{" + g.str() + ": " + g.value(2) + "," + strings.TrimPrefix(known, "{")
		}
		return known
	default:
		return known
	}
}

func (g *generator) exceptions(f *filter) string {
	var members []string
	for _, e := range f.exceptions {
		switch g.IntN(4) {
		case 0:
			members = append(members, fmt.Sprintf("%q: %s", e.class, e.settings))
		case 1:
			members = append(members, fmt.Sprintf("%q:%s", e.class, pick(g, settingsOfAnyKind)))
		}
	}
	if g.oneIn(3) {
		members = append(members, g.str()+":"+g.value(2))
	}
	g.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	return "{" + strings.Join(members, ", ") + "}"
}

// spoilt changes a few bytes.
func (g *generator) spoilt(body string) string {
	b := []byte(body)
	for range min(1+g.IntN(3), len(b)-1) {
		switch i := g.IntN(len(b)); g.IntN(3) {
		case 0:
			b[i] = pick(g, []byte("{}[]\",:0 \x00\xff\xc3\\e.-"))
		case 1:
			b = append(b[:i], b[i+1:]...)
		default:
			b = append(b[:i], append([]byte{pick(g, []byte("{}[]\",:9 \t\x80\\"))}, b[i:]...)...)
		}
	}
	if strings.Contains(string(b), `\ud`) {
		return body // half a surrogate pair has no UTF-8, as documented
	}
	return string(b)
}

func (g *generator) space() string { return pick(g, []string{"", "", " ", "\n\t", "\r\n"}) }

func (g *generator) object(depth int) string {
	members := make([]string, g.IntN(5))
	for i := range members {
		members[i] = g.space() + g.str() + ":" + g.value(depth-1)
	}
	return "{" + strings.Join(members, ",") + g.space() + "}"
}

func (g *generator) value(depth int) string {
	if depth > 0 && g.oneIn(3) {
		if g.oneIn(2) {
			return g.object(depth)
		}
		items := make([]string, g.IntN(4))
		for i := range items {
			items[i] = g.value(depth - 1)
		}
		return "[" + strings.Join(items, ", ") + "]"
	}
	switch g.IntN(6) {
	case 0:
		return pick(g, []string{"null", "true", "false"})
	case 1:
		return pick(g, []string{
			"0", "-0", "1.0", "1e2", "NaN", "-Infinity", "1E-7", "12345678901234567890123", "-1.5e+300", "0.1", "1e16", "100000000000000000.0",
		})
	case 2:
		return fmt.Sprint(g.Int64N(2000) - 1000)
	case 3:
		return fmt.Sprint(g.NormFloat64())
	default:
		return g.str()
	}
}

// str returns one of a few strings, so that keys repeat.
func (g *generator) str() string {
	return pick(g, []string{
		`"a"`, `"b"`, `"a_b"`, `"url"`, `"mode"`, `"context"`, `"user"`, `""`, `"ü"`, `"\u00fc"`, `"it's"`, `"\"q\" it's"`, `"\n\t\u0000"`, `"😀"`,
		`"\ud83d\ude00"`, `"a b&c=d+e%"`, `"\\"`, `"\u2028\ufeff"`, `"Token"`, `"new_password1"`, `"_private"`, "\"\u007f\"",
	})
}
