package expression

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/itchyny/gojq"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
)

// places are all the places of an expression in which another may stand.
var places = []string{
	"X", "(X)", "[X]", "{a: X}", "{(X): 1}", `{"a\(X)": 1}`, `"a\(X)b"`, `@sh "\(X)"`, `@base64 "a\("b\(X)")"`, ".[X]", ".[X:]", ".[:X]",
	".a[X]", ".a.[X]",
	`."a\(X)"`, `.a."b\(X)"`, "X.a", "X[0]", "X[]", "X?", "-X", "X | .", ". | X", "X, 1", "1, X", "X + 1", "1 + X", "X * 2", "2 * X",
	". *= X", "X *= 2",
	"X // 1", "1 // X", "X and true", "true or X", "X == 1", ".a = X", "(X) = 1", ".a |= X", ".a += X", ".a //= X", "if X then 1 else 2 end",
	"if . then X else 2 end", "if . then 1 else X end", "if . then 1 elif X then 2 end", "if . then 1 elif . then X end", "try X",
	"try X catch 1", "try 1 catch X",
	"reduce X as $x (1; 2)", "reduce . as $x (X; 2)", "reduce . as $x (1; X)", "foreach X as $x (1; 2)", "foreach . as $x (X; 2)",
	"foreach . as $x (1; X)",
	"foreach . as $x (1; 2; X)", "label $f | X", "X as $x | 1", ". as $x | X", ". as {a: $x} | X", ". as {(X): $x} | 1",
	`. as {"a\(X)": $x} | 1`,
	". as [$x, {b: {(X): $y}}] | 1", ". as [$x] ?// {(X): $x} | 1", "def f: X; 1", "def f: def g: X; g; f", "def f(x): x; f(X)",
	"def f($x): $x; f(X)",
	"map(X)", "limit(X; 1)", "limit(1; X)", "first(X)", "path(X)", "setpath([X]; 1)", "setpath([]; X)", "getpath([X])", "test(X)",
	`test("a"; X)`,
	`gsub("a"; X)`, "strptime(X)", "range(X)",
}

// refused returns the names of names.txt that are refused for a reason of their own.
func refused() map[string]bool {
	all := make(map[string]bool)
	for line := range strings.Lines(prelude().refused) {
		names, _, _ := strings.Cut(line, ": ")
		for name := range strings.FieldsSeq(names) {
			all[name] = true
		}
	}
	return all
}

// What depends on more than the event is refused, wherever it stands.
func TestRefused(t *testing.T) {
	t.Parallel()
	used := map[string]string{ // an expression that uses it, where the name alone is none
		"getenv": `getenv("A")`, "debug": `debug("a")`, "halt_error": "halt_error(1)", "strflocaltime": `strflocaltime("%c")`,
		"fromstream": "fromstream(.[])",
	}
	for name := range refused() {
		for _, use := range []string{name, used[name]} {
			for _, place := range places {
				if use == "" {
					continue
				}
				expression := strings.Replace(place, "X", use, 1)
				if _, err := gojq.Parse(expression); err != nil {
					t.Fatalf("%s: %v", expression, err)
				}
				_, err := Compile(expression, payload.Value{})
				if err == nil || !strings.HasPrefix(err.Error(), name+" is not allowed: it ") {
					t.Errorf("%s: %v, want an error that %s is not allowed", expression, err, name)
				}
			}
		}
	}
	for expression, want := range map[string]string{
		`{$ENV}`:                           "$ENV is not allowed",
		`{$__loc__}`:                       "$__loc__ is not allowed",
		`$__prog_name`:                     "$__prog_name is not allowed",
		`import "a" as a; .`:               "module, import and include are not allowed",
		`include "a"; .`:                   "module, import and include are not allowed",
		`import "a" as $a; .`:              "module, import and include are not allowed",
		`module {a: 1}; .`:                 "module, import and include are not allowed",
		`def now: 1; now`:                  "now is not allowed",
		`_multiply("x"; 1e9)`:              "_multiply is not allowed",
		`def _is_equal(a; b): 1; 1 == 2`:   "a function _is_equal is not allowed",
		`def f: def _own: 1; _own; f`:      "a function _own is not allowed",
		``:                                 "the expression does not compile: missing query",
		`.a.`:                              "the expression does not parse: unexpected EOF, at byte 3",
		`.a | nothing`:                     "the expression does not compile: function not defined: nothing/0",
		`$nothing`:                         "the expression does not compile: variable not defined: $nothing",
		strings.Repeat(" ", MaxText) + ".": "the expression has 16385 bytes: write 16384 at most",
		`.[1e9] = 1`:                       "the array index 1000000000 is above 262144",
		"\"" + strings.Repeat("\xff", 10) + "\"(": "the expression does not parse: ",
	} {
		if _, err := Compile(expression, payload.Value{}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.40s: %v, want the error %s…", expression, err, want)
		}
	}
}

// Every function that gojq has by itself has been looked at: one that a later version adds may not be pure.
func TestEveryFunctionOfGojqIsKnown(t *testing.T) {
	t.Parallel()
	code, err := gojq.Compile(must(gojq.Parse("[builtins[] | split(\"/\")[0]] | unique")))
	if err != nil {
		t.Fatal(err)
	}
	v, _ := code.Run(nil).Next()
	names, _ := v.([]any)
	var unknown []string
	for _, name := range names {
		name := name.(string)
		if !refused()[name] && !slices.Contains(strings.Fields(pure), name) {
			unknown = append(unknown, name)
		}
	}
	if len(names) < 150 || len(unknown) > 0 {
		t.Errorf("%d functions, among them unknown ones: see what they depend on, and put them into refused or pure:\n%s",
			len(names), strings.Join(unknown, " "))
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// pure are the functions of gojq whose results depend on nothing but what they are given; of strptime see checkFormat.
const pure = `
IN INDEX JOIN abs acos acosh add all any arrays ascii_downcase ascii_upcase asin asinh atan atan2 atanh booleans bsearch capture
cbrt ceil combinations contains copysign cos cosh del delpaths drem empty endswith erf erfc error exp exp10 exp2 explode expm1
fabs fdim finites first flatten floor fma fmax fmin fmod format frexp from_entries fromdate fromdateiso8601 fromjson
gamma getpath gmtime group_by gsub has hypot implode in index indices infinite inside isempty isfinite isinfinite isnan isnormal
iterables j0 j1 jn join keys last ldexp length lgamma limit log log10 log1p log2 logb ltrim ltrimstr map map_values match max
max_by min min_by mktime modf nan nearbyint nextafter nexttoward normals not nth nulls numbers objects path paths pick pow range
recurse remainder repeat reverse rindex rint round rtrim rtrimstr scalars scalb scalbln scan select setpath significand sin sinh
skip sort sort_by split splits sqrt startswith strftime strings strptime sub tan tanh test tgamma to_entries toboolean todate
todateiso8601 tojson tonumber tostream tostring transpose trim trimstr trunc truncate_stream type unique unique_by until
utf8bytelength values walk while with_entries y0 y1 yn`

// What stands in for gojq's own does the same.
func TestStandInsDoTheSame(t *testing.T) {
	t.Parallel()
	for _, expression := range []string{
		`[(1, 2) * (10, 20)]`, `"ab" * 3`, `3 * "ab"`, `"ab" * 0`, `"ab" * -1`, `{a: {b: 1}} * {a: {c: 2}}`, `1.5 * 2`, `null * 1`,
		`[1] * 2`, `.n *= 5`,
		`.n *= (.n, 2)`, `[.n *= (2, 3)]`, `.l[] *= 2`, `.n as $x | .n *= $x * $x`, `(.n, .m) *= 2`, `.n *= error("x")`,
		`1 * error("x")`,
		`(.n *= 2) *= 3`,
		`.l[.n]`, `.l[.n, .m]`, `[.l[(0, 1)]]`, `.l[.n] = 5`, `.l[.n] |= . + 1`, `.o[.k]`, `.o[.k] = 1`, `path(.l[.n])`, `[paths]`,
		`.l[null]`, `.l[-1]`, `.l[1.7]`,
		`.l[.n:]`, `.l[.l]`, `.o["x\(.n)"]`, `.o[.k]?`, `try .l[.k] catch .`, `del(.l[.n])`, `to_entries`, `.l | .[length - 1]`,
		`.l as [$a, $b] | $a + $b`,
		`setpath(["o", "z"]; 1)`, `setpath(["l", 5]; 1)`, `getpath(["o", "x"])`, `getpath(["l", 0]) = 7`, `[getpath(["a"], ["o"])]`,
		`path(getpath(["o", "x"]))`,
		`"2015-03-05" | strptime("%Y-%m-%d")`, `"2015-03-05T23:51:47Z" | fromdate`, `"x" | strptime("%Y")`,
		`"2015-03-05T01:02:03+01:00" | strptime("%Y-%m-%dT%H:%M:%S%z")`,
		`.t | test("B"; "i")`, `.t | test(["B", "i"])`, `.t | [test("B"), test("B"; "i"), test("B")]`, `[.t | match("[a-zé]+"; "g")]`,
		`.t | [match("(?<x>a)(?<y>z)?"; "g")]`,
		`.t | capture("(?<x>a)(?<y>z)?b")`,
		`[.t | scan("[a-z]")]`, `[.t | scan("([a-z])(.)")]`, `[.t | scan("A"; "i")]`, `.t | split(", *"; null)`, `[.t | splits("x")]`,
		`[.t | splits("É"; "i")]`,
		`.t | sub("(?<x>[a-z])"; "<\(.x)>")`, `.t | gsub("(?<x>[a-z])"; "<\(.x)>")`, `.t | gsub("é"; "e", "ee")`,
		`.t | gsub("A"; "_"; "i")`,
		`.t | sub("zz"; "y")`,
		`.t | gsub("^"; "> ")`, `.t | gsub("$"; "!")`, `.t | [match(""; "g").offset]`, `.t | sub("(?<x>é)?b"; "\(.x)")`,
		`.t | test("a.b"; "m")`, `.t | split(" ")`,
		`.t | ascii_downcase | test("é\\b")`, `[.t | match("b.*?é"; "gm")]`, `.t | gsub("\\s+"; " ")`,
		`[.t | capture("(?<w>[a-z]+)"; "g")]`,
		`"" | gsub("x"; "y")`,
		`-3 * 4`, `0 * -9223372036854775808`, `-1 * -9223372036854775808`, `-9223372036854775808 * -1`, `-9223372036854775808 * 1`,
		`3037000500 * 3037000500`, `3037000499 * 3037000499`, `9223372036854775807 * 2`,
		`1 + 2`, `1 + 2.5`, `2.5 + 1`, `0.1 + 0.2`, `9223372036854775807 + 1`, `-9223372036854775808 + -1`, `1e308 + 1e308`,
		`nan + 1`,
		`"a" + "b"`, `"" + ""`, `[1] + [2]`, `[] + [2]`, `[1] + []`, `{a: 1} + {a: 2, b: 3}`, `{} + .o`, `null + 1`, `1 + null`,
		`null + null`,
		`1 + "a"`, `[1] + {}`, `true + 1`, `("1" | fromjson) + 1`, `(1, 2) + (10, 20)`, `error("l") + error("r")`, `.n += 5`,
		`.n += (.n, 2)`,
		`.l += [4]`, `.o += {y: 2}`, `(.n, .m) += .n`, `.x += 1`, `.n -= 5`, `.l -= [2]`, `.n -= (.n, 2)`, `.l[] += .n`,
		`.n += error("x")`,
		`3 as $x | .n += $x`, `path(.n + 1)`, `path(1 == 1)`,
		`1 - 2`, `1 - 2.5`, `2.5 - 1`, `-9223372036854775808 - 1`, `9223372036854775808 - 1`, `[1, 2, 1, 3] - [1]`, `[] - [1]`,
		`[1] - []`,
		`[1, [1.0], {a: 1}, "a", null, true] - [1.0, [1], {a: 1}, "a"]`, `[nan] - [nan]`, `[nan, 1] - [1]`, `"a" - "b"`, `{} - {}`,
		`null - 1`,
		`[range(200)] - [range(50; 150)] | length`, `[range(100)] - [range(100) | . + 0.0]`,
		`[range(100), nan, [nan]] - [nan, range(99), [nan]]`,
		`[range(100) | tostring] - [range(99) | tostring]`, `[range(100) | [., {a: .}]] - [range(50) | [., {a: .}]] | length`,
		`2 * 3`, `9223372036854775807 * 2`, `-9223372036854775808 * -1`, `2.5 * 2`, `1e200 * 1e200`, `2 * "ab"`, `"ab" * 0.5`,
		`"a" * "b"`,
		`{a: {b: 1, c: 2}} * {a: {b: 3}}`, `[] * []`, `123456789012345678901234567890 * 987654321098765432109876543210`,
		`null * null`,
		`[1, 1.0, 2, "a", null, true, [1], {a: 1}] | [.[] as $x | .[] as $y | [$x == $y, $x != $y, $x < $y, $x <= $y, $x > $y, $x >= $y]]`,
		`[nan == nan, nan < nan, nan > nan, nan != nan, nan <= nan, nan >= nan]`, `[(1, 2) == (1, 2)]`, `error("l") == error("r")`,
		`"foobar" | contains("bar")`, `contains("x")`, `1 | contains(1.0)`, `1 | contains("1")`, `null | contains(null)`,
		`true | contains(false)`,
		`null | contains(1)`, `.l | contains([1, 3])`, `.l | contains([4])`, `["foo", 1] | contains(["o", 1])`, `.l | contains(1)`,
		`contains({o: {x: 1}})`,
		`contains({o: {x: 2}})`, `contains({z: 1})`, `{} | contains(.)`, `[] | contains([])`,
		`[[1, 2], [3]] | contains([[2], [3]])`, `[1] | contains(["1"])`,
		`{a: null} | contains({a: 1})`, `nan | contains(nan)`, `[1] | inside([1, 2])`, `"a" | inside("ab")`, `1 | inside("a")`,
		`9007199254740993 | contains(9007199254740992.0)`,
		`"a,b, cd" | indices(",")`, `"aaaa" | indices("aa")`, `"aaaa" | [index("aa"), rindex("aa")]`,
		`"éaé" | [indices("é"), index("a")]`, `"a" | indices("")`,
		`"a" | index("")`, `"" | indices("a")`, `"" | index("a")`, `"abab" | rindex("ba")`, `[0, 1, 2, 1, 2] | indices([1, 2])`,
		`[0, 1, 1] | indices(1)`,
		`[1, 1, 1] | indices([1, 1])`, `[1] | indices([])`, `[1] | index([])`, `[1] | index(2)`, `[1, 2, 1] | rindex(1)`,
		`null | indices(1)`, `1 | indices(1)`,
		`"a" | indices(1)`, `[nan] | indices(nan)`, `[1.0, 1] | indices(1)`, `.l | .[[2, 3]]`, `[.l | .[[9]]]`,
		`"abcabcabd" | indices("abcabd")`,
		`["a", 1, null, true, 2.5] | join("-")`, `[] | join("-")`, `["a"] | join("-")`, `["a", "b"] | join(1)`,
		`["a", [1]] | join(",")`, `["a", "b"] | join("x", "y")`,
		`.o | join(",")`, `1 | join(",")`, `[1, 2] | add`, `["a", "b"] | add`, `[[1], [2]] | add`, `[{a: 1}, {b: 2}] | add`,
		`[] | add`, `null | add`, `add(.l[])`, `.o | add`,
		`.l | tojson`, `.o | tostring`, `"a" | tostring`, `"\(.l) \(.t)"`, `@json "x\(.o)"`, `@csv "\(.l)"`,
		`.l | @csv, @tsv, @sh, @json, @text, @html`, `.t | @uri, @base64`,
		`"YQ==" | @base64d`, `"a%20b" | @urid`, `.l | format("csv")`, `format("nothing")`, `.o | @csv`,
		`[.l, [4, [5]]] | flatten, flatten(1)`, `flatten(-1)`, `1 | flatten`,
		`[3, 1, 2] | sort, min, max, unique`,
		`[{a: 2}, {a: 1}, {a: 2}] | sort_by(.a), group_by(.a), unique_by(.a), min_by(.a), max_by(.a)`, `[3, 1] | sort_by(-., .)`,
		`[] | min_by(.), max_by(.), sort_by(.)`, `1 | sort`, `[1] | sort_by(error("x"))`, `{} | sort_by(.)`,
		`[1, 2, 3] | bsearch(2), bsearch(0)`, `1 | bsearch(1)`,
		`[[1, 2], [3]] | transpose`, `[1] | transpose`, `"12" | tonumber`, `"x" | tonumber`, `[1] | tonumber`,
		`"[1, \"2\"]" | fromjson`, `1 | fromjson`,
		`delpaths([["n"], ["l", 0]])`, `del(.n, .l[0:2])`, `del(.l[0, 1], .l[1:])`, `delpaths(1)`, `jn(2; 1.5)`, `yn(2; 1.5)`,
		`2 | IN(1, 2)`, `IN(.l[]; 1, 9)`,
		`[{id: 1}, {id: 2}] | INDEX(.id)`, `INDEX(.l[]; . + 1)`, `{"1": "a"} as $i | [1, 2] | JOIN($i; tostring)`,
		`{"1": "a"} as $i | [JOIN($i; 1, 2; tostring)]`,
		`{"1": "a"} as $i | [JOIN($i; 1, 2; tostring; add)]`, `def join($x): "own"; [1] | join("a")`,
		`def tostring: "own"; "\(1)"`, `. as {("n"): $x} | $x`,
		`10 / 4`, `[(1, 2) / (10, 20)]`, `"a, b" / ", "`, `"ab" / ""`, `.t / 1`, `.n /= 4`, `1 / 0`, `path(.n / 2)`, `.t | split("")`,
		`.t | explode | implode`, `1 | explode`, `7 % 3`, `.n %= 2`, `.x //= 3`, `.n //= 3`,
		`.l |= map(. + 1)`, `.l[] |= (., 9)`, `(.l[] | select(. > 1)) |= empty`, `.l[1:] |= empty`, `.l[0:2] |= [7]`, `.o |= empty`,
		`(.n, .l[0], .o.x) |= empty`, `.. |= empty`, `[.n |= (1, 2)]`, `.n |= error("x")`, `.t.a |= 1`, `(.n + 1) |= 1`, `.l[5] |= 1`,
		`.n |= (.x |= 1)?`, `.l |= (.[0] |= empty)`, `(.l, .o) |= (.[] |= empty)`, `. as $x | .n |= $x.m`, `path(.n |= 1)`,
		`map_values(empty)`, `map_values(select(. != 2))`, `.l | map_values(., 1)`, `.l | map_values(select(. > 1))`, `.o | map_values(.)`,
		`{} | map_values(1)`, `null | map_values(1)`, `1 | map_values(1)`, `map_values(error("x"))`, `walk(select(. != 2))`, `walk(., 1)`,
		`walk(if type == "object" then del(.x) else . end)`, `walk(if type == "array" then sort else . end)`,
		`.n = 1`, `.l = (1, 2)`, `(.l, .o)[0]? = 1`, `.l | first, last, nth(1), nth(9)`, `nth(1; .l[])`, `nth(-1; 1)`, `.l | nth(1) = 7`,
		`0 | strftime("%Y-%m-%dT%H:%M:%SZ"), todate`, `strftime("%Y")`, `0 | strftime(1)`, `pick(.l[1])`, `pick(.o.x, .n)`,
		`[limit(2; .l[])]`, `[.l[] | tostring | tojson]`, `"\(.l)\(.o)" | length`, `{"\(.t)": 1} | keys`, `.["\(.k)"]`, `."\(.k)" = 1`,
		`@json "a\(.l)b\(.o)"`, `@text "\(1)\("b")"`, `@sh "echo \(.t, .l)"`, `@uri "?q=\(.t)"`, `@base64 "\(.n)\(@json "\(.t)")"`,
		`path(reduce (2 * 3) as $x (.; .n))`, `path(.l[.n * 1 - 1])`, `path(first(.l[] | select(. * 2 == 4)))`,
		`[1, 2, 1, 2] as {([1, 2]): $x} | $x`, `try error({a: 1}) catch .a`, `error({a: 1})`, `error`,
	} {
		const input = `{"n": 1, "m": 2, "l": [1, 2, 3], "o": {"x": 1}, "k": "x", "t": "ab é\nabc É, ab"}`
		want := results(t, must(gojq.Compile(must(gojq.Parse(expression)))), input)
		p, err := Compile(expression, payload.Value{})
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			continue
		}
		if got := results(t, p.code, input, nil, nil, nil); got != want {
			t.Errorf("%s:\n got %s\nwant %s", expression, got, want)
		}
	}
}

func results(t *testing.T, code *gojq.Code, input string, variables ...any) string {
	t.Helper()
	var all strings.Builder
	iter := code.Run(toJQ(parsed(t, input)), variables...)
	for {
		v, ok := iter.Next()
		if !ok {
			return all.String()
		}
		if err, ok := v.(error); ok {
			return all.String() + "error: " + err.Error()
		}
		text, err := gojq.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(append(text, '\n'))
	}
}

// What a slip can do in one step is stopped before it is done.
func TestSteps(t *testing.T) {
	t.Parallel()
	m := message(t, `{"id": 12345678, "price": "9.99", "path": ["a", 12345678], "text": "`+strings.Repeat("ab é", 100_000)+`"}`)
	for expression, want := range map[string]string{
		`"x" * 1e9`:                             "a text of 1 bytes is repeated 1000000000 times",
		`$data.price * $data.id`:                "a text of 4 bytes is repeated 12345678 times",
		`$data.id * $data.price`:                "a text of 4 bytes is repeated 12345678 times",
		`$data | .price *= 1e6`:                 "a text of 4 bytes is repeated 1000000 times",
		`"x" * infinite`:                        "a text of 1 bytes is repeated 1.7976931348623157e+308 times",
		`[][$data.id] = 1`:                      "the array index 12345678 is above 262144",
		`null | .[$data.id] |= 1`:               "the array index 12345678 is above 262144",
		`null | .a[$data.id].b += 1`:            "the array index 12345678 is above 262144",
		`reduce $data.id as $i ([]; .[$i] = 1)`: "the array index 12345678 is above 262144",
		`null | setpath($data.path; 1)`:         "the array index 12345678 is above 262144",
		`null | getpath($data.path) = 1`:        "the array index 12345678 is above 262144",
		`"UTC" | strptime("%Z")`:                "strptime with %Z depends on the zone of the process",
		`"UTC" | strptime("%H%%%-Z")`:           "strptime with %Z depends on the zone of the process",
	} {
		if got, err := apply(t, expression, "", m); err == nil || !strings.HasPrefix(err.Error(), "the transform failed: "+want) {
			t.Errorf("%s: %.40s, %v; want the error %s…", expression, got, err, want)
		}
	}
	// 500 kB take most of a minute with gojq's own.
	p, err := Compile(`$data.text | gsub("b"; "_")`, payload.Value{})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if _, err := p.Apply(context.Background(), NewInput(m)); err == nil || time.Since(begin) > busy {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
}

// Patterns that come from events are not kept for good.
func TestPatternsAreForgotten(t *testing.T) {
	t.Parallel()
	var p patterns
	for i := range 10 * maxPatterns {
		if found := p.findAll("xx", []any{strings.Repeat("x", 1+i), nil, true}); found != (i < 2) {
			t.Fatalf("%d: %v", i, found)
		}
		kept := 0
		p.known.Range(func(any, any) bool { kept++; return true })
		if kept > maxPatterns {
			t.Fatalf("%d patterns are kept", kept)
		}
	}
}

func TestTooManyMatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // whose clock stands meanwhile: however busy the machine is, nothing takes too long
		var p patterns
		if err, ok := p.findAll(strings.Repeat("a", maxMatches+1), []any{"a", "g", false}).(error); !ok {
			t.Error("no error for one match too many")
		} else if want := "the regular expression matches more than 100000 times"; err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
		if found, ok := p.findAll(strings.Repeat("a", maxMatches), []any{"a", "g", false}).([]any); !ok || len(found) != maxMatches {
			t.Errorf("%d matches", len(found))
		}
	})
}
