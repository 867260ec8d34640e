package preset

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// whole is a preset's file with all that a file may have.
const whole = `{
	"name": "some-name", "summary": "What it is for.", "event": "COURSE_ENROLLMENT_CREATED", "secret": "the receiver's",
	"parameters": [
		{"name": "base-url", "kind": "url", "required": true, "help": "an address"},
		{"name": "words", "kind": "list", "default": "a, b", "help": "words"},
		{"name": "note", "kind": "text", "help": "a note"},
		{"name": "size", "kind": "text", "choices": ["small", "large"], "help": "a size"}
	],
	"options": {"signing": {"scheme": "standard"}, "shape": "standard", "headers": {"X-A": "b"}, "timeout": "20s"}
}`

func TestParse(t *testing.T) {
	t.Parallel()
	if _, err := parse([]byte(whole)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, from, to, want string }{
		{"unknown field", `"secret"`, `"secrets"`, "secrets"},
		{"unknown field of a parameter", `"kind": "url"`, `"type": "url"`, "type"},
		{"unknown option", `"shape"`, `"form"`, "form"},
		{"two objects", whole, whole + "{}", "more follows after the object"},
		{"text behind", whole, whole + "]", "more follows after the object"},
		{"no object", whole, "[]", "array"},
		{"cut", whole, whole[:40], "unexpected EOF"},
		{"name with capitals", `"some-name"`, `"Some"`, `name "Some"`},
		{"no name", `"some-name"`, `""`, `name ""`},
		{"name with two hyphens", `"some-name"`, `"a--b"`, `name "a--b"`},
		{"name of a path", `"some-name"`, `"../x"`, `name "../x"`},
		{"no summary", `"What it is for."`, `""`, "summary"},
		{"summary of two lines", `"What it is for."`, `"a\nb"`, "summary"},
		{"no event", `"COURSE_ENROLLMENT_CREATED"`, `""`, "event"},
		{"event in the options", `"shape"`, `"event_type": "a.b", "shape"`, "event"},
		{"preset in the options", `"shape"`, `"preset": "x", "shape"`, "preset"},
		{"params in the options", `"shape"`, `"params": {}, "shape"`, "params"},
		{"secret without a scheme", `"signing": {"scheme": "standard"}, `, ``, "secret"},
		{"secret without signing", `{"scheme": "standard"}`, `{"scheme": "none"}`, "secret"},
		{"scheme without a secret", `"the receiver's"`, `""`, "secret"},
		{"auth", `"shape"`, `"auth": {"type": "bearer"}, "shape"`, "auth"},
		{"client certificate", `"shape"`, `"client_cert": {"subject": "x"}, "shape"`, "client_cert"},
		{"windows", `"shape"`, `"earlier": [{}], "shape"`, "earlier"},
		{"parameter with an underscore", `"base-url"`, `"base_url"`, `name "base_url"`},
		{"parameter without a name", `"base-url"`, `""`, `name ""`},
		{"parameter twice", `"note"`, `"words"`, "words is there twice"},
		{"parameter without help", `"an address"`, `""`, "base-url has no help"},
		{"kind", `"kind": "url"`, `"kind": "uri"`, `kind "uri"`},
		{"no kind", `"kind": "url"`, `"kind": ""`, `kind ""`},
		{"choices of a list", `"default": "a, b"`, `"choices": ["a"]`, "words has choices"},
		{"required with a default", `"default": "a, b"`, `"default": "a", "required": true`, "words is required"},
		{"bad default", `"a, b"`, `"a,,b"`, "the default: the parameter words"},
		{"default that is no choice", `"choices"`, `"default": "huge", "choices"`, `"huge" is none of small, large`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			text := strings.Replace(whole, c.from, c.to, 1)
			if text == whole {
				t.Fatal("the file was not changed")
			}
			if _, err := parse([]byte(text)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q in it", err, c.want)
			}
		})
	}
}

func TestDocument(t *testing.T) {
	t.Parallel()
	r, err := parse([]byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	document, err := r.Document(map[string]string{"base-url": "https://h:8/p//", "note": "é <b>", "size": ""})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"preset":"some-name","params":{"base_url":"https://h:8/p","note":"é \u003cb\u003e","words":["a","b"]},` +
		`"shape":"standard","headers":{"X-A":"b"},"signing":{"scheme":"standard"},"timeout":"20s"}`
	if string(text) != want {
		t.Errorf("%s\nwant\n%s", text, want)
	}
	// What a command does with its document must not change the preset.
	document.Headers["X-A"], document.Signing.Scheme = "c", "none"
	if r.Options.Headers["X-A"] != "b" || r.Options.Signing.Scheme != "standard" || r.Options.Preset != "" || r.Options.Params != nil {
		t.Errorf("the preset is now %+v", r.Options)
	}
	for _, c := range []struct{ name, value, want string }{
		{"words", "en, fr-CA,zh_Hans", `["en","fr-CA","zh_Hans"]`},
		{"words", "en", `["en"]`},
		{"words", "en,", "empty place"},
		{"words", ",", "empty place"},
		{"words", " ", "empty place"},
		{"words", "en fr", `"en fr" in the list is more than one word`},
		{"words", "en,en", `"en" is in the list twice`},
		{"words", "e\x00n", "more than one word"},
		{"note", " any text, all of it ", `" any text, all of it "`},
		{"note", "two\nlines", "cannot be seen"},
		{"note", "\xff", "cannot be seen"},
		{"size", "large", `"large"`},
		{"size", "huge", `"huge" is none of small, large`},
		{"base-url", "http://h", `"http://h"`},
		{"base-url", "https://h/", `"https://h"`},
		{"base-url", "HTTPS://h.example/a/b/", `"HTTPS://h.example/a/b"`},
		{"base-url", "http://[::1]:8000", `"http://[::1]:8000"`},
		{"base-url", "", "needs base-url: give an address"},
		{"base-url", "h", "not absolute"},
		{"base-url", "//canary", "not absolute"},
		{"base-url", "/canary", "not absolute"},
		{"base-url", "canary:8000", "not absolute"},
		{"base-url", "https://", "not absolute"},
		{"base-url", "https:canary", "not absolute"},
		{"base-url", "https://:443/canary", "not absolute"},
		{"base-url", "ftp://canary", "not absolute"},
		{"base-url", "https://u:canary@h", "credentials"},
		{"base-url", "https://h?canary", "query"},
		{"base-url", "https://h/?", "query"},
		{"base-url", "https://h#canary", "fragment"},
		{"base-url", "https://h/#", "fragment"},
		{"base-url", "https://h/can ary", "does not parse"},
		{"base-url", " https://h", "does not parse"},
		{"base-url", "https://h\n", "does not parse"},
		{"base-url", "https://h/\xffcanary", "does not parse"},
		{"base-url", "https://%zzcanary", "does not parse"},
		{"other", "x", "no parameter other"},
		{"other", "", "no parameter other"},
	} {
		values := map[string]string{"base-url": "https://h", c.name: c.value}
		document, err := r.Document(values)
		if err != nil {
			if text := err.Error(); !strings.Contains(text, c.want) || !strings.Contains(text, c.name) || strings.Contains(text, "canary") {
				t.Errorf("%s=%q: %v, want %q", c.name, c.value, err, c.want)
			}
			continue
		}
		var params map[string]json.RawMessage
		if err := json.Unmarshal(document.Params, &params); err != nil {
			t.Fatal(err)
		}
		if got := string(params[strings.ReplaceAll(c.name, "-", "_")]); got != c.want {
			t.Errorf("%s=%q: %s, want %s", c.name, c.value, got, c.want)
		}
	}
}

func TestByName(t *testing.T) {
	t.Parallel()
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, len(all))
	for i, r := range all {
		names[i] = r.Name
		if found, err := ByName(r.Name); err != nil || found.Summary != r.Summary {
			t.Errorf("%s: %v, %v", r.Name, found, err)
		}
	}
	if !slices.IsSorted(names) || !slices.Contains(names, "richie") {
		t.Errorf("the presets are %v", names)
	}
	for _, name := range []string{"", "Richie", "../richie", "other"} {
		if _, err := ByName(name); err == nil || !strings.Contains(err.Error(), strings.Join(names, ", ")) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// Whatever is given, a document comes of it that can be read back, or an error.
func FuzzDocument(f *testing.F) {
	r, err := parse([]byte(whole))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("https://lms.example.org/", "en,fr", "note")
	f.Add("http://[::1%25eth0]:1/", "é, ü", "\u202e")
	f.Fuzz(func(t *testing.T, base, words, note string) {
		document, err := r.Document(map[string]string{"base-url": base, "words": words, "note": note})
		if err != nil {
			return
		}
		var params struct {
			Base  string   `json:"base_url"`
			Words []string `json:"words"`
			Note  string   `json:"note"`
		}
		if err := json.Unmarshal(document.Params, &params); err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(params.Base, "?# \n") || strings.HasSuffix(params.Base, "/") || !strings.HasPrefix(base, params.Base) ||
			len(params.Words) == 0 || slices.Contains(params.Words, "") || params.Note != note {
			t.Errorf("%+v of %q, %q, %q", params, base, words, note)
		}
	})
}
