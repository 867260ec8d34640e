package webfilter

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/unicode"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/sender"
)

// merged is what the rows have said so far.
type merged struct{ data, exceptions payload.Entries }

// add merges a row's answer as its flags say. An answer that is not a JSON object is ignored.
func (m *merged) add(f *rule.Webfilter, answer *sender.Answer) {
	text := decode(answer.Body, answer.ContentType)
	said, err := payload.ParseJSON([]byte(text))
	if err != nil || strings.HasPrefix(text, byteOrderMark) { // which ParseJSON takes
		return
	}
	if data, ok := said.Get("data"); ok && !f.DisableFiltering {
		merge(&m.data, data)
	}
	if exceptions, ok := said.Get("exception"); ok && !f.DisableHalt {
		merge(&m.exceptions, exceptions)
	}
}

// merge is Python's dict.update. Only an Object has entries.
func merge(into *payload.Entries, from payload.Value) {
	if from.Kind() != payload.Object {
		return
	}
	for i := range from.Len() {
		into.Set(from.Key(i), from.Item(i))
	}
}

const (
	// latin1 is ISO 8859-1 for Python; htmlindex takes it for Windows-1252, as browsers do.
	latin1   = "iso-8859-1"
	utf8Name = "utf-8"
	guessed  = "" // what requests finds out by looking at the bytes
)

// byteOrderMark makes a text something other than JSON for Python, unless it expects or guesses it.
const byteOrderMark = "\ufeff"

// decode returns the text that Python's requests makes of a body: by the charset, else by the type,
// with invalid bytes replaced. Where requests would guess, it is UTF-8.
func decode(body []byte, contentType string) string {
	charset := charsetOf(contentType)
	switch charset {
	case latin1, "iso8859-1", "iso_8859-1", "latin-1", "latin1", "l1", "ascii", "us-ascii":
		runes := make([]rune, len(body))
		for i, c := range body {
			if runes[i] = rune(c); c >= utf8.RuneSelf && strings.HasSuffix(charset, "ascii") {
				runes[i] = utf8.RuneError
			}
		}
		return string(runes)
	}
	encoding, err := htmlindex.Get(charset)
	switch {
	case charset == "utf-16" || charset == "utf16": // a mark at its start says how to read it
		encoding = unicode.UTF16(unicode.LittleEndian, unicode.UseBOM)
	case err != nil:
		encoding = unicode.UTF8 // as requests does with a charset that it does not know
	}
	text, err := encoding.NewDecoder().Bytes(body)
	if err != nil {
		return ""
	}
	if charset == guessed || charset == "utf-8-sig" {
		text = bytes.TrimPrefix(text, []byte(byteOrderMark))
	}
	return string(text)
}

// charsetOf returns a charset in lower case, as requests reads it, mistakes included.
func charsetOf(contentType string) string {
	media, parameters, _ := strings.Cut(contentType, ";")
	charset, found := "", false
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, value, ok := strings.Cut(parameter, "=")
		if ok && strings.EqualFold(strings.Trim(name, "\"' "), "charset") {
			charset, found = strings.ToLower(strings.Trim(value, "\"' ")), true
		}
	}
	switch {
	case found && charset != "":
		return charset
	case found: // empty: requests takes its own default
		return utf8Name
	case strings.Contains(media, "text"):
		return latin1
	case strings.Contains(media, "application/json"):
		return utf8Name
	}
	return guessed
}
