package admin

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/suggest"
)

// ParseOptions reads the JSON of a rule's options: a file, or the body of a request.
func ParseOptions(content []byte) (rule.Document, error) {
	if !utf8.Valid(content) {
		return rule.Document{}, &Problem{Field: "options", Reason: "what it names is not UTF-8"}
	}
	if text := strings.TrimSpace(string(content)); text == "" || text == "null" { // a pipe that broke off does not ask for that
		return rule.Document{}, &Problem{Field: "options", Reason: "there are no options in it", Fix: "write {} to take all away"}
	}
	d, err := rule.ParseDocument(string(content))
	if err != nil {
		return rule.Document{}, &Problem{Field: "options", Reason: optionFault(content, err).Error()}
	}
	return d, nil
}

// optionExamples show how to write options that are neither texts nor plain numbers.
var optionExamples = map[string]string{
	"headers":        `{"X-Tenant": "campus-7"}`,
	"signing":        `{"scheme": "standard"}`,
	"auth":           `{"type": "basic", "username": "lms"}`,
	"auth.scopes":    `["hooks.write"]`,
	"timeout":        `"5s"`,
	"retry_schedule": `["5s", "5m"]`,
}

// optionFault says of a file that holds no options what to write, in the words of JSON, without a value of it: that may be a secret.
func optionFault(content []byte, err error) error {
	var object map[string]json.RawMessage
	_ = json.Unmarshal(content, &object) // what is not an object has no names
	if object["options"] != nil && object["event_type"] != nil && object["id"] != nil {
		return errors.New("the file has a whole rule: give what it has under options")
	}
	var known []string
	for field := range reflect.TypeFor[rule.Document]().Fields() {
		known = append(known, jsonName(field))
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		// As the decoder has it, without regard to case.
		if !slices.ContainsFunc(known, func(k string) bool { return strings.EqualFold(k, name) }) {
			return fmt.Errorf("unknown option %q%s", suggest.Clip(name, 40), suggest.DidYouMean(name, known))
		}
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return typeFault(wrong)
	}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("the file is not JSON: %w, at byte %d", syntax, syntax.Offset)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the file is not JSON: it ends too early")
	}
	return errors.New(strings.ReplaceAll(err.Error(), "json: ", ""))
}

// kinds are what values of options are, where they are not texts.
var kinds = map[reflect.Kind]string{
	reflect.Slice: "a list", reflect.Struct: "an object", reflect.Map: "an object", reflect.Int: "a whole number", reflect.Float64: "a number",
}

// typeFault says what a value should be.
func typeFault(wrong *json.UnmarshalTypeError) error {
	if wrong.Field == "" {
		return fmt.Errorf(`write an object of options, such as {"timeout": "5s"}, not %s`, withArticle(wrong.Value))
	}
	example, kind := optionExamples[wrong.Field], kinds[wrong.Type.Kind()]
	if kind == "" && example != "" && example[0] != '"' {
		kind = "texts in it" // the field is that of the list or object
	}
	kind = cmp.Or(kind, "a text") // durations and times are texts, too
	if example != "" {
		kind += ", such as " + example
	}
	return fmt.Errorf("%s: write %s, not %s", wrong.Field, kind, withArticle(wrong.Value))
}

// withArticle names a kind of JSON value within a sentence. Of a number the decoder also says which it is.
func withArticle(value string) string {
	kind, _, _ := strings.Cut(value, " ")
	return cmp.Or(articles[kind], "a "+kind)
}

var articles = map[string]string{"array": "a list", "object": "an object", "string": "a text", "bool": "true or false"}

// jsonName returns the name that a field has in JSON.
func jsonName(field reflect.StructField) string {
	name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
	return name
}
