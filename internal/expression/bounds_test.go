package expression

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/itchyny/gojq"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
)

// tooLarge are expressions that take seconds or gigabytes in one step of gojq's own, and how their errors begin here. Data is as in
// TestSteps; those that share parts of themselves, again and again, hold 2⁴⁰ values.
var tooLarge = map[string]string{
	`[range(5000) | tostring] | join("x" * 20000)`:              "a value is too large for one step",
	`("x," * 30000) / "," | join("x" * 1000000)`:                "a value is too large for one step",
	`[("x" * 1000000) as $x | $x, $x, $x, $x, $x, $x] | add`:    "a value is too large for one step",
	`add(("x" * 1000000) as $x | $x, $x, $x, $x, $x, $x)`:       "a value is too large for one step",
	`[("x" * 1000000) as $x | $x, $x, $x, $x, $x, $x] | @csv`:   "a value is too large for one step",
	`[("x" * 1000000) as $x | $x, $x, $x, $x, $x, $x] | tojson`: "a value is too large for one step",
	`("x" * 1000000 / "") as $x | [$x, $x] | add`:               "a value is too large for one step",
	`reduce range(40) as $i ("x"; . + .)`:                       "a value is too large for one step",
	`reduce range(40) as $i ("x"; . += .)`:                      "a value is too large for one step",
	`reduce range(40) as $i ("x"; "\(.)\(.)")`:                  "a value is too large for one step",
	`reduce range(40) as $i ("x"; @base64 "\(.)\(.)")`:          "a value is too large for one step",
	`reduce range(40) as $i ([1]; . + .)`:                       "a value is too large for one step",
	`reduce range(40) as $i ([1]; [., .]) | tojson`:             "a value is too large for one step",
	`reduce range(40) as $i ([1]; [., .]) | tostring`:           "a value is too large for one step",
	`reduce range(40) as $i ([1]; [., .]) | @html`:              "a value is too large for one step",
	`reduce range(40) as $i ([1]; [., .]) | "\(.)"`:             "a value is too large for one step",
	`reduce range(40) as $i ([1]; [., .]) | format("sh")`:       "a value is too large for one step",
	`reduce range(40) as $i ([1]; [., .]) | . == .`:             "a value is too large for one step",
	`reduce range(40) as $i ([1]; [., .]) | . < .`:              "a value is too large for one step",
	`reduce range(40) as $i ([1]; [., .]) | IN(.)`:              "a value is too large for one step",
	`reduce range(40) as $i ([1]; [., .]) | INDEX(.)`:           "a value is too large for one step",
	`reduce range(40) as $i ([1]; [., .]) | flatten`:            "a value is too large for one step",
	`reduce range(40) as $i ([1]; [., .]) | min`:                "a value is too large for one step",
	`reduce range(40) as $i ([1]; [., .]) | sort`:               "a value is too large for one step",
	`reduce range(40) as $i ([1]; [., .]) | index(.)`:           "a value is too large for one step",
	`reduce range(40) as $i ([1]; [., .]) | del(.[0])`:          "a value is too large for one step",
	`reduce range(40) as $i ([1]; [., .]) | . - .`:              "a value is too large for one step",
	`reduce range(40) as $i ([1]; [., .]) | contains(.)`:        "a value is too large for one step",
	`reduce range(40) as $i ([1]; [., .]) | error`:              "an error with a value that is too large to be shown",
	`reduce range(40) as $i ({}; {a: ., b: .}) | . * .`:         "a value is too large for one step",
	`$data.list | contains($data.list)`:                         "a value is too large for one step",
	`$data.list | inside($data.list)`:                           "a value is too large for one step",
	`("x" * 500000 / "") | sort`:                                "a value is too large for one step",
	`("x" * 500000 / "") | unique`:                              "a value is too large for one step",
	`("x" * 500000 / "") | . - .`:                               "a value is too large for one step",
	`$data.list | .[$data.other[:100]]`:                         "a list of 100 values is too long for an index",
	`$data.list | getpath([$data.list[:100]])`:                  "a list of 100 values is too long for an index",
	`$data.list as {($data.list[:100]): $x} | $x`:               "a list of 100 values is too long for an index",
	`null | setpath("x" * 20000 / ""; 1)`:                       "a value is too large for one step",
	`[("x" * 500000 / ""), [1], [1]] | transpose`:               "a value is too large for one step",
	`$data.list | del(.[range(300):])`:                          "a value is too large for one step",
	`"1" * 1000000 | tonumber`:                                  "a value is too large for one step",
	`"[\"1\", " + "1" * 100000 + "]" | fromjson`:                "a value is too large for one step",
	`reduce range(100) as $i (10; . * .)`:                       "a value is too large for one step",
	`reduce range(100) as $i ({n: 10}; .n *= .n) | .n`:          "a value is too large for one step",
	`jn(1000000000; 1e18)`:                                      "error: the order 1000000000 of a Bessel function",
	`0 | strftime("%999d" * 200000)`:                            "a value is too large for one step",
	`null | (nth(500000000) = 1)`:                               "the array index 500000000 is above 262144",
	`"x" | test("(a{1000}){1000}")`:                             "error parsing regexp",
	`"x" | test("(a{10}){100}" * 20)`:                           "a regular expression has 24002 places",
	`"x" | test("x" * 20000)`:                                   "a regular expression has 20000 bytes",
	`"x" * 1000000 | test("(x+x+)+y(a{500}){2}")`:               "a regular expression of 1014 places is too much for a text of 1000000 bytes",
}

// wide returns the event data of tooLarge: two lists of learners.
func wide() string {
	var list, other strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&list, `,"learner%06d"`, i)
		fmt.Fprintf(&other, `,"learner%06d"`, i+2500)
	}
	return `{"list": [` + list.String()[1:] + `], "other": [` + other.String()[1:] + `]}`
}

// No step takes seconds or gigabytes: see bounds.
func TestStepsAreBounded(t *testing.T) {
	t.Parallel()
	m := message(t, wide())
	for expression, want := range tooLarge {
		begin := time.Now()
		got, err := apply(t, expression, "", m)
		if err == nil || !strings.HasPrefix(err.Error(), "the transform failed: "+want) {
			t.Errorf("%s: %.40s, %v; want the error %s…", expression, got, err, want)
		}
		if took := time.Since(begin); took > busy { // it is some ms
			t.Errorf("%s took %v", expression, took)
		}
	}
}

// What events of a megabyte need is within the bounds.
func TestBoundsLeaveRoom(t *testing.T) {
	t.Parallel()
	m := message(t, wide())
	for expression, want := range map[string]string{
		`$data.list - $data.other | length`:                       "2500",
		`$data | .list -= .other | .list | length`:                "2500",
		`$data.list | contains(["learner000001"])`:                "true",
		`$data | contains({list: ["learner004999"]})`:             "true",
		`["learner000001", "learner004999"] | inside($data.list)`: "true",
		`$data.list | join(", ") | length`:                        "74998",
		`$data.list | join(", ") | index("learner004999")`:        "74985",
		`$data.list | join(",") | indices(",") | length`:          "4999",
		`[$data.list, $data.other] | add | unique | length`:       "7500",
		`$data.list | indices("learner000001")`:                   "[1]",
		`$data | tojson | length`:                                 "160020",
		`$data | tojson | fromjson == $data`:                      "true",
		`$data.list | join(",") | test("learner[0-9]{6}$")`:       "true",
		`"9" * 16384 | tonumber | . + 1 | tostring | length`:      "16385",
		`"x" * 1000000 | test("^x{30}")`:                          "true",
	} {
		if got, err := apply(t, expression, "", m); err != nil || got != want {
			t.Errorf("%s: %.60s, %v; want %s", expression, got, err, want)
		}
	}
}

// Comparing with something small costs what that does: these compare what is left of a long list with an empty one, again and again.
// Looking at all of the list would be looking at 1.6 billion values.
func TestComparingWithNothing(t *testing.T) {
	t.Parallel()
	m := message(t, `{}`)
	begin := time.Now()
	for expression, want := range map[string]string{
		`[range(100)] as $x | [[range(5000) | {a: ., b: $x}] | while(. != []; .[1:]) | .[0].a] | length`: "5000",
		`[range(100)] as $x | [range(5000) | {a: ., b: $x}] | until(. == []; .[1:]) | length`:            "0",
		`[range(100)] as $x | [range(5000) | {a: ., b: $x}] as $l | [range(5000) | $l > {}] | length`:    "5000",
	} {
		if got, err := apply(t, expression, "", m); err != nil || got != want {
			t.Errorf("%s: %.60s, %v; want %s", expression, got, err, want)
		}
	}
	if took := time.Since(begin); took > busy { // it is 100 ms
		t.Errorf("it took %v", took)
	}
	list := make([]any, 100_000)
	for _, limit := range []int{16, 1000} {
		if left := weigh(list, limit, textGrain, maxNested); left != -1 {
			t.Errorf("%d values more than those that were allowed were looked at", -left)
		}
	}
}

// A pattern that may go to the end of the text for each of its matches is given up.
func TestMatchesThatAreSlow(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	found := new(patterns).findAll(strings.Repeat("x", 200_000), []any{"x*y|x", "g", false})
	if err, ok := found.(error); !ok || !errors.Is(err, ErrTooLong) {
		t.Errorf("%.40v; want that it takes too long", found)
	}
	if took := time.Since(begin); took > busy { // some minutes where nobody looks at the clock
		t.Errorf("it took %v", took)
	}
}

// A function of gojq's own wins over one of ours, which would never be called.
func TestNamesOfOurOwn(t *testing.T) {
	t.Parallel()
	names := strings.Fields("_find_all _measured _made _paired _comparable _at _fail _lt _le _eq _ne _ge _gt _difference _copied")
	for i, def := range prelude().defs {
		if def.Name[0] == '_' && !prelude().needs[i]["_gojq_"+def.Name] { // else it stands in for gojq's own
			names = append(names, def.Name)
		}
	}
	for _, name := range names {
		for _, args := range []string{"", "(1)", "(1; 1)", "(1; 1; 1)"} {
			if _, err := gojq.Compile(must(gojq.Parse(name + args))); err == nil {
				t.Errorf("gojq has a function %s%s of its own", name, args)
			}
		}
	}
}

// A run whose time went into one step did not succeed: its rule would be slow for every event, and never paused.
func TestOneSlowStep(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		expression string
		took       time.Duration
		tooLong    bool
	}{
		{"slow", patience*MaxTime + time.Millisecond, true},
		{"slow", patience * MaxTime, false}, // it may have waited for a processor
		{"[range(100)] | slow", MaxTime + time.Millisecond, true},
		{"[range(100)] | slow", MaxTime, false},
		{"try slow catch true", patience*MaxTime + time.Millisecond, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			code, err := gojq.Compile(must(gojq.Parse(tc.expression)), gojq.WithVariables([]string{"$event", "$data", "$params"}),
				gojq.WithFunction("slow", 0, 0, func(any, []any) any {
					<-time.After(tc.took)
					return true
				}))
			if err != nil {
				t.Fatal(err)
			}
			fires, err := (&Program{code: code}).Test(context.Background(), NewInput(message(t, userData)))
			if fires == tc.tooLong || errors.Is(err, ErrTooLong) != tc.tooLong {
				t.Errorf("%s for %v: %v, %v", tc.expression, tc.took, fires, err)
			}
		})
	}
}

func BenchmarkDifference(b *testing.B) {
	p, err := Compile("$data.list - $data.other == []", payload.Value{})
	if err != nil {
		b.Fatal(err)
	}
	in := NewInput(message(b, wide()))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Test(b.Context(), in); err != nil {
			b.Fatal(err)
		}
	}
}
