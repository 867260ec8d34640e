package payload

import (
	"strings"
	"testing"
)

func TestParseJSON(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{ // spelled as json.dumps(json.loads(in)) does
		` {"b" : 1 , "a":[ ] ,"c": { } } `:                  `{"b": 1, "a": [], "c": {}}`,
		`{"a": 1, "b": 2, "a": 3}`:                          `{"a": 3, "b": 2}`,
		`[1, -0, 0.0, -0.0, 1e3, 1E-7, 1e400, -1e400]`:      `[1, 0, 0.0, -0.0, 1000.0, 1e-07, Infinity, -Infinity]`,
		`[NaN, Infinity, -Infinity, true, null]`:            `[NaN, Infinity, -Infinity, true, null]`,
		`[9007199254740993,123456789012345678901234567890]`: `[9007199254740993, 123456789012345678901234567890]`,
		`[-9223372036854775808,-9223372036854775809]`:       `[-9223372036854775808, -9223372036854775809]`,
		`"\ud83d\ude00 \u00e9 \/ \b\f\n\r\t\"\\"`:           `"\ud83d\ude00 \u00e9 / \b\f\n\r\t\"\\"`,
		`"\ud83d x \ude00 \ud83d\u0041"`:                    `"\ufffd x \ufffd \ufffdA"`,
		`"😀 é \u007F"`:                                      `"\ud83d\ude00 \u00e9 \u007f"`,
		"\ufeff1":                                           `1`,
		`"x\u0000y"`:                                        `"x\u0000y"`,
		strings.Repeat("[", 500) + strings.Repeat("]", 500): strings.Repeat("[", 500) + strings.Repeat("]", 500),
	} {
		v, err := ParseJSON([]byte(in))
		if got := string(AppendJSON(nil, v)); err != nil || got != want {
			t.Errorf("%.80s: %.200s, %v, want %.200s", in, got, err, want)
		}
	}
}

func TestParseJSONRefuses(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		``, ` `, `nul`, `nulll`, `tru`, `-`, `-x`, `01`, `-01`, `1.`, `.5`, `1e`, `1e+`, `+1`, `0x1`, `1 2`, `nan`, `-NaN`, `inf`,
		`[`, `[1`, `[1,`, `[1,]`, `[,1]`, `[1 2]`, `]`, `{`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{a:1}`, `{"a" 1}`, `{1:1}`, `'a'`,
		`"`, `"a`, `"\`, `"\x"`, `"\u12"`, `"\u12g4"`, `"\u`, "\"a\nb\"", "\"\\n\x01\"", "\"\xff\"", "\xff", "[1]\x00",
		strings.Repeat("[", 100_000), strings.Repeat(`{"a":`, 100_000), strings.Repeat("1", maxIntDigits+1),
	} {
		v, err := ParseJSON([]byte(in))
		if err == nil {
			t.Errorf("%.40q is taken as %.80s", in, AppendJSON(nil, v))
		} else if len(err.Error()) > 100 {
			t.Errorf("%.40q: error of %d bytes", in, len(err.Error()))
		}
	}
}

func FuzzParseJSON(f *testing.F) {
	f.Add([]byte(`{"a": [1, -2.5e3, NaN, "\ud83d\ude00", {"b": null}], "_x": true, "token": 1}`))
	f.Add([]byte(`[123456789012345678901234567890, "\u0000", {}, []]`))
	f.Fuzz(func(t *testing.T, in []byte) {
		v, err := ParseJSON(in)
		if err != nil {
			return
		}
		once := AppendJSON(nil, v)
		again, err := ParseJSON(once)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if twice := AppendJSON(nil, again); string(twice) != string(once) {
			t.Fatalf("%s became %s", once, twice)
		}
		if v.Kind() == Object {
			if fast, slow := AppendForm(nil, v), appendFormMerged(nil, v); string(fast) != string(slow) {
				t.Fatalf("the two ways to a form differ: %s, %s", fast, slow)
			}
		}
		redacted := Redact(v)
		if twice := Redact(redacted); string(AppendJSON(nil, twice)) != string(AppendJSON(nil, redacted)) {
			t.Fatal("redacting twice changes something")
		}
	})
}
