package cli

import (
	"errors"
	"strings"
	"testing"
)

// What is wrong with a file of options is said in the words of JSON, never in those of Go, and without its values.
func TestFaultsOfOptionFiles(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{`{"retry_schedule": "5s,5m"}`, `--options: retry_schedule: write a list, such as ["5s", "5m"], not a text`},
		{`{"retry_schedule": [5]}`, `--options: retry_schedule: write texts in it, such as ["5s", "5m"], not a number`},
		{`{"timeout": 5}`, `--options: timeout: write a text, such as "5s", not a number`},
		{`{"timeout": "c4n4ry"}`, "--options: the options are not as this version knows them: "},
		{`{"concurrency": "4"}`, `--options: concurrency: write a whole number, not a text`},
		{`{"concurrency": 4.5}`, `--options: concurrency: write a whole number, not a number`},
		{`{"rate": true}`, `--options: rate: write a number, not true or false`},
		{`{"filter": {"a": 1}}`, `--options: filter: write a text, not an object`},
		{`{"headers": ["X-A: c4n4ry"]}`, `--options: headers: write an object, such as {"X-Tenant": "campus-7"}, not a list`},
		{`{"headers": {"X-A": 1}}`, `--options: headers: write texts in it, such as {"X-Tenant": "campus-7"}, not a number`},
		{`{"signing": "standard"}`, `--options: signing: write an object, such as {"scheme": "standard"}, not a text`},
		{`{"signing": {"scheme": 1}}`, `--options: signing.scheme: write a text, not a number`},
		{`{"auth": {"scopes": "a"}}`, `--options: auth.scopes: write a list, such as ["hooks.write"], not a text`},
		{`["c4n4ry"]`, `--options: write an object of options, such as {"timeout": "5s"}, not a list`},
		{`"c4n4ry"`, `--options: write an object of options, such as {"timeout": "5s"}, not a text`},
		{`{"timout": "5s"}`, `--options: unknown option "timout"; did you mean timeout?`},
		{`{"kind": "webhook"}`, `--options: unknown option "kind"`},
		{`{"signing": {"schema": "standard"}}`, `--options: the options are not as this version knows them: unknown field "schema"`},
		{`{"id": 7, "event_type": "a.b", "options": {"timeout": "5s"}}`, "--options: the file has a whole rule: give what it has under options"},
		{`{"timeout": "5s"`, "--options: the file is not JSON: it ends too early"},
		{`{"timeout": 5s}`, "--options: the file is not JSON: invalid character 's' after object key:value pair, at byte 14"},
		{`{} {}`, "--options: the options are not as this version knows them: more follows after the object"},
		{" \n", "--options: there are no options in it: write {} to take all away"},
		{"null", "--options: there are no options in it: write {} to take all away"},
	} {
		_, err := (&inputs{stdin: strings.NewReader(c.text)}).document("-")
		if err != nil {
			err = errors.New(explain(err))
		}
		switch {
		case err == nil:
			t.Errorf("%s is taken, want %q", c.text, c.want)
		case strings.HasPrefix(c.text, `{"timeout": "c4n`): // a value that is no secret may be repeated
			if !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("%s: %s\nwant %s", c.text, err, c.want)
			}
		case err.Error() != c.want:
			t.Errorf("%s: %s\nwant %s", c.text, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), "Go ") || strings.Contains(err.Error(), "json:")) {
			t.Errorf("%s: %s: the words are those of Go", c.text, err)
		}
	}
	if d, err := (&inputs{stdin: strings.NewReader(`{"retry_schedule": ["5s"], "headers": {}}`)}).document("-"); err != nil ||
		len(d.RetrySchedule) != 1 {
		t.Errorf("a good file: %v, %v", d, err)
	}
}
