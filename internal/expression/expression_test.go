package expression

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/event"
)

// busy is more than what takes a second takes on a machine that is twenty times slower.
const busy = time.Minute

// userClass is the class path of the test event.
const userClass = "openedx_events.learning.data.UserData"

func parsed(t testing.TB, text string) payload.Value {
	t.Helper()
	v, err := payload.ParseJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func message(t testing.TB, data string) *payload.Message {
	t.Helper()
	return &payload.Message{
		Event: event.Event{
			Type: "org.openedx.learning.student.registration.completed.v1", ID: "457f0c26", Source: "openedx/lms/web", SourceHost: "host",
			MinorVersion: 2, Time: time.Date(2023, 1, 31, 20, 24, 32, 976_084_000, time.UTC), SourceLib: []int64{11, 2, 0},
		},
		Data: payload.ObjectValue([]string{userClass}, []payload.Value{parsed(t, data)}),
	}
}

const userData = `{"id": 12345678, "is_active": true, "score": 1.0, "big": 123456789012345678901234567890, "none": null, "token": "secret",
 "pii": {"username": "andrés", "email": "a@example.com", "name": ""}, "roles": ["staff", "beta"], "price": "9.99"}`

// apply runs a transform in a bubble, whose clock stands meanwhile: however busy the machine is, it
// does not run too long.
func apply(t *testing.T, expression, params string, m *payload.Message) (got string, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { got, err = applyTimed(t, expression, params, m) })
	return got, err
}

func applyTimed(t *testing.T, expression, params string, m *payload.Message) (string, error) {
	t.Helper()
	var values payload.Value
	if params != "" {
		values = parsed(t, params)
	}
	p, err := Compile(expression, values)
	if err != nil {
		return "", err
	}
	v, err := p.Apply(t.Context(), NewInput(m))
	if err != nil {
		return "", err
	}
	return string(payload.AppendJSON(nil, v)), nil
}

// What programs see, and what becomes of their results.
func TestApply(t *testing.T) {
	t.Parallel()
	m := message(t, userData)
	for expression, want := range map[string]string{
		`keys`:                       `["event_metadata", "` + userClass + `"]`,
		`.["` + userClass + `"].id`:  `12345678`,
		`$data.pii.username`:         `"andr\u00e9s"`,
		`$event.event_type`:          `"org.openedx.learning.student.registration.completed.v1"`,
		`$event.sourcelib`:           `[11, 2, 0]`,
		`.event_metadata == $event`:  `true`,
		`$params.course.id`:          `"c1"`,
		`$data | has("token")`:       `false`, // redacted
		`{b: 1, a: {d: 1, c: 2}}`:    `{"a": {"c": 2, "d": 1}, "b": 1}`,
		`$data.score`:                `1.0`,
		`$data.score + 1`:            `2.0`,
		`[1.0, 1, 4 / 2, 3 / 2]`:     `[1.0, 1, 2, 1.5]`,
		`3.7 | floor`:                `3.0`,
		`3.7 | floor | tostring`:     `"3"`,
		`$data.big`:                  `123456789012345678901234567890`,
		`$data.big + 1`:              `123456789012345678901234567891`,
		`-$data.big`:                 `-123456789012345678901234567890`,
		`$data.big - $data.big`:      `0`,
		`9223372036854775807 + 1`:    `9223372036854775808`,
		`9223372036854775808 - 1`:    `9223372036854775807`,
		`[nan, infinite, -infinite]`: `[null, 1.7976931348623157e+308, -1.7976931348623157e+308]`,
		`"/w==" | @base64d`:          `"\ufffd"`,
		`$data.none`:                 `null`,
		`[]`:                         `[]`,
		`{}`:                         `{}`,
		`"2015-03-05T23:51:47Z" | fromdate | todate`:                              `"2015-03-05T23:51:47Z"`,
		`"23 Feb 2016" | strptime("%d %b %Y") | mktime | gmtime | strftime("%j")`: `"054"`,
		`$data.pii | .name = "x" | .name`:                                         `"x"`,
		`[$data.roles[] | ascii_upcase]`:                                          `["STAFF", "BETA"]`,
		`try error("x") catch .`:                                                  `"x"`,
		`label $f | 1, break $f`:                                                  `1`,
		`{env: 1, now: 2} | .env + .now`:                                          `3`, // keys are no functions
		`def test: "own"; test`:                                                   `"own"`,
	} {
		got, err := apply(t, expression, `{"course": {"id": "c1"}}`, m)
		if err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", expression, got, err, want)
		}
	}
}

// $data is the data of the one class there is; without exactly one it is the object of all.
func TestData(t *testing.T) {
	t.Parallel()
	one := parsed(t, `{"a": 1}`)
	for want, m := range map[string]*payload.Message{
		`{}`:                               {},
		`{"a": 1}`:                         {Data: payload.ObjectValue([]string{"x.Y"}, []payload.Value{one})},
		`{"x.Y": {"a": 1}, "x.Z": "text"}`: {Data: parsed(t, `{"x.Z": "text", "x.Y": {"a": 1}}`)},
	} {
		if got, err := apply(t, "$data", "", m); err != nil || got != want {
			t.Errorf("%s, %v; want %s", got, err, want)
		}
	}
}

func TestTest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testTest)
}

func testTest(t *testing.T) {
	in := NewInput(message(t, userData))
	for expression, want := range map[string]bool{
		`true`: true, `false`: false, `null`: false, `empty`: false, `$data.is_active`: true, `$data.none`: false, `$data.nothing`: false,
		`$event.source | startswith("openedx/lms")`: true, `any($data.roles[]; . == "admin")`: false, `$params == null`: true,
	} {
		p, err := Compile(expression, payload.Value{})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.Test(t.Context(), in); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", expression, got, err, want)
		}
	}
	for expression, want := range map[string]string{
		`$data.pii.username`: "the filter returned a string: make it true or false",
		`1`:                  "the filter returned a number: make it true or false",
		`$data.roles`:        "the filter returned a list",
		`$data`:              "the filter returned an object",
		`true, false`:        "the filter returned more than one result",
		`null, null`:         "the filter returned more than one result",
		`.[0]`:               "the filter failed: expected an array",
		`error("x")`:         "the filter failed: error: x",
		`error(null)`:        "the filter failed: error: null",
		`"x" | error`:        "the filter failed: error: x",
	} {
		p, err := Compile(expression, payload.Value{})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.Test(t.Context(), in); err == nil || got || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, %v; want the error %s…", expression, got, err, want)
		}
	}
}

func TestApplyFails(t *testing.T) {
	t.Parallel()
	m := message(t, userData)
	for expression, want := range map[string]string{
		`empty`:                               "the transform returned no result",
		`1, 2`:                                "the transform returned more than one result",
		`1, error("x")`:                       "the transform failed: error: x",
		`"x" * 1048576`:                       "the transform failed: the result has more than 1048576 bytes as JSON",
		`[range(262145)] | map("abc")`:        "the transform failed: ", // too much, or too long: both are limits
		`reduce range(30) as $i ([]; [., .])`: "the transform failed: the result has more than 1048576 bytes as JSON",
		`reduce range(401) as $i (0; [.])`:    "the transform failed: the result is nested deeper than 400",
		`reduce range(401) as $i (0; {a: .})`: "the transform failed: the result is nested deeper than 400",
		`{("x" * 1000000): ("y" * 100000)}`:   "the transform failed: the result has more than 1048576 bytes as JSON",
		`"["*20000 | fromjson`:                "the transform failed: fromjson cannot be applied to",
		`"x" | test("(")`:                     "the transform failed: error parsing regexp",
		`$data.id | test("x")`:                "the transform failed: a regular expression needs texts, and cannot be applied to: number (1234",
		`"x" | test("x"; "xn")`:               `the transform failed: the flags "xn" are not some of g, i and m`,
	} {
		if got, err := apply(t, expression, "", m); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %.50s, %v; want the error %s…", expression, got, err, want)
		}
	}
	for expression, want := range map[string]string{
		`reduce range(400) as $i (0; [.])`: strings.Repeat("[", 400) + "0" + strings.Repeat("]", 400),
		`"x" * 1048000`:                    `"` + strings.Repeat("x", 1048000) + `"`,
	} {
		if got, err := apply(t, expression, "", m); err != nil || got != want {
			t.Errorf("%s: %.50s, %v; this is within the limits", expression, got, err)
		}
	}
}

// A mistake in a loop ends.
func TestRunsEnd(t *testing.T) {
	m := message(t, userData)
	for _, expression := range []string{
		`until(false; .)`, `[range(1e9)]`, `[limit(1e9; repeat(1))]`, `def f: f; f`, `def f: 1 + f; f`, `[recurse(.)]`,
		`first(range(1e9) | select(. < 0))`,
		`try until(false; .) catch 1`, `[range(1000)] | [combinations(3)]`,
		`reduce range(1e9) as $i (0; [.])`,
	} {
		begin := time.Now()
		_, err := applyTimed(t, expression, "", m)
		if !errors.Is(err, ErrTooLong) || err.Error() != "the transform failed: it ran longer than 50ms" {
			t.Errorf("%s: %v; want an error that it ran too long", expression, err)
		}
		if took := time.Since(begin); took < MaxTime || took > busy { // most take 60 ms
			t.Errorf("%s took %v", expression, took)
		}
	}
}

// A run that waits for a processor is not taken for one that goes on and on; one that takes its time in few steps ends as well.
func TestBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, tc := range []struct {
			steps int
			took  time.Duration
			ends  bool
		}{
			{fewSteps - lookEach, MaxTime + time.Millisecond, false},
			{2 * fewSteps, MaxTime, false},
			{2 * fewSteps, MaxTime + time.Millisecond, true},
			{1, patience * MaxTime, false},
			{1, patience*MaxTime + time.Millisecond, true},
		} {
			b := &budget{Context: t.Context(), begin: time.Now()}
			for range tc.steps {
				b.Done()
			}
			<-time.After(tc.took)
			for range lookEach {
				b.Done()
			}
			select {
			case <-b.Done():
				if !tc.ends || !errors.Is(b.Err(), ErrTooLong) {
					t.Errorf("%d steps in %v: %v", tc.steps, tc.took, b.Err())
				}
			default:
				if tc.ends || b.Err() != nil {
					t.Errorf("%d steps in %v: goes on, %v", tc.steps, tc.took, b.Err())
				}
			}
		}
	})
}

// The caller's end is told from the expression's own.
func TestCallerGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testCallerGivesUp)
}

func testCallerGivesUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p, err := Compile("until(false; .)", payload.Value{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Apply(ctx, NewInput(message(t, userData))); err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("%v, want an error that it was cancelled", err)
	}
}

// Programs share the input, so none may change it, whatever it does.
func TestInputStaysAsItIs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testInputStaysAsItIs)
}

func testInputStaysAsItIs(t *testing.T) {
	m := message(t, userData)
	in := NewInput(m)
	params := parsed(t, `{"list": [3, 1, 2]}`)
	want := string(payload.AppendJSON(nil, m.Payload()))
	for _, expression := range []string{
		`.event_metadata.id = 1`, `del(.event_metadata)`, `$data | .pii.name |= "x"`, `$data.roles | sort`,
		`$data | .roles[0] = 1 | .roles += [1]`,
		`to_entries`, `walk(if type == "object" then del(.id) else . end)`, `$data.roles | reverse`, `$event | .sourcelib[5] = 1`,
		`reduce ($data.roles[]) as $r ($data; .roles += [$r])`, `delpaths([["event_metadata"]])`, `$data | .roles |= map("x")`,
		`$params | .list |= sort`,
		`map_values(.id? = 0)`, `$data | setpath(["pii", "name"]; "x")`, `$params.list | .[0] = 9`, `$data | (.pii | .username) = "x"`,
		`$data * {pii: {name: 1}}`,
		`[.[] | objects | .id = 7]`, `$data.roles | unique | .[0] = "z"`, `with_entries(.value = 1)`, `$data | .pii = (.pii | .name = 2)`,
		`$data.roles - ["staff"]`,
	} {
		p, err := Compile(expression, params)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Apply(t.Context(), in); err != nil {
			t.Errorf("%s: %v", expression, err)
		}
		all, err := Compile("[., $event, $data, $params]", params)
		if err != nil {
			t.Fatal(err)
		}
		v, err := all.Apply(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		fresh, err := all.Apply(t.Context(), NewInput(m))
		if err != nil {
			t.Fatal(err)
		}
		if got, fresh := string(payload.AppendJSON(nil, v)), string(payload.AppendJSON(nil, fresh)); got != fresh {
			t.Fatalf("%s changed its input:\n got %s\nwant %s", expression, got, fresh)
		}
	}
	if got := string(payload.AppendJSON(nil, m.Payload())); got != want {
		t.Error("the message was changed")
	}
}

// One program runs for many events at once, regular expressions included.
func TestProgramsRunAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testProgramsRunAtOnce)
}

func testProgramsRunAtOnce(t *testing.T) {
	p, err := Compile(`$data.pii.username | test($data.pattern) and ($params.list | sort | .[0]) == 1`, parsed(t, `{"list": [3, 1, 2]}`))
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	for i := range 4 {
		running.Go(func() {
			for j := range 200 {
				pattern := "^" + strings.Repeat("a?", 1+i*20+j%20) + "ndr"
				m := message(t, `{"pii": {"username": "andrés"}, "pattern": "`+pattern+`"}`)
				if fires, err := p.Test(t.Context(), NewInput(m)); err != nil || !fires {
					t.Errorf("%v, %v", fires, err)
				}
			}
		})
	}
	running.Wait()
}

// gojq writes into all of what it deletes from: that must not be what runs share, or the process ends
// with concurrent writes to a map.
func TestRunsShareNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testRunsShareNothing)
}

func testRunsShareNothing(t *testing.T) {
	params := parsed(t, `{"a": {"b": {"c": [1, {"d": 2}]}}, "x": 1}`)
	for _, expression := range []string{
		`$params | del(.x)`, `$params | delpaths([["a", "none"]])`, `$params | .x |= empty`, `$params | (.a.b.none, .x) |= empty`,
		`{a: {b: {c: 1}}} | del(.x)`, `{a: {b: {c: 1}}} | .x |= empty`, `$params | map_values(select(. != 1))`,
		`$params | walk(if . == 1 then empty else . end)`, `[[1, [2]]] | del(.[0][0])`,
	} {
		p, err := Compile(expression, params)
		if err != nil {
			t.Fatal(err)
		}
		var running sync.WaitGroup
		for range 4 {
			running.Go(func() {
				for range 100 {
					if _, err := p.Apply(t.Context(), NewInput(message(t, `{}`))); err != nil {
						t.Errorf("%s: %v", expression, err)
					}
				}
			})
		}
		running.Wait()
	}
}

// A panic within gojq is an error. gojq panics for values of types that it does not know.
func TestPanicIsAnError(t *testing.T) {
	t.Parallel()
	p, err := Compile("$data | length", payload.Value{})
	if err != nil {
		t.Fatal(err)
	}
	in := &Input{made: true, data: struct{}{}}
	if _, err := p.Apply(t.Context(), in); err == nil || !strings.Contains(err.Error(), "panicked") {
		t.Errorf("%v, want an error that gojq panicked", err)
	}
}

func TestErrorsAreCut(t *testing.T) {
	t.Parallel()
	m := message(t, `{"text": "`+strings.Repeat("é", 5000)+`"}`)
	_, err := apply(t, `error($data.text)`, "", m)
	if err == nil || utf8.RuneCountInString(err.Error()) != maxError || !utf8.ValidString(err.Error()) {
		t.Errorf("%v; want %d characters", err, maxError)
	}
	if err := cut("", errors.New(strings.Repeat("x", maxError*4-1)+"é")); !utf8.ValidString(err.Error()) {
		t.Error("a character was broken")
	}
	if err := cut("before: ", errors.New(strings.Repeat("x", maxError-8))); utf8.RuneCountInString(err.Error()) != maxError {
		t.Error("an error that fits was cut")
	}
	if err := cut("", errors.New("\xff")); err.Error() != "\ufffd" {
		t.Errorf("%q", err)
	}
}
