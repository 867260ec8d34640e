package preset

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Kind says what the value of a parameter looks like.
type Kind string

// The kinds.
const (
	Text Kind = "text" // one line
	URL  Kind = "url"  // http or https with a host, a path perhaps, and no more; without the slash at its end
	List Kind = "list" // words, comma separated; an array of strings for expressions
)

func (p *Parameter) check() error {
	switch {
	case !named.MatchString(p.Name):
		return fmt.Errorf("the name %q of a parameter is not usable: write lower-case letters, digits and hyphens between them", p.Name)
	case p.Help == "":
		return fmt.Errorf("the parameter %s has no help: write what to give", p.Name)
	case p.Kind != Text && p.Kind != URL && p.Kind != List:
		return fmt.Errorf("the kind %q of the parameter %s is none of %s, %s, %s", p.Kind, p.Name, Text, URL, List)
	case len(p.Choices) > 0 && p.Kind != Text:
		return fmt.Errorf("the parameter %s has choices: make its kind %s", p.Name, Text)
	case p.Required && p.Default != "":
		return fmt.Errorf("the parameter %s is required, and has a default: leave one of the two out", p.Name)
	}
	if _, err := p.read(p.Default); err != nil && p.Default != "" {
		return fmt.Errorf("the default: %w", err)
	}
	return nil
}

// read checks a value and returns what expressions get.
func (p *Parameter) read(value string) (read any, err error) {
	switch p.Kind {
	case URL:
		read, err = readURL(value)
	case List:
		read, err = readList(value)
	case Text:
		read, err = p.readText(value)
	}
	if err != nil {
		return nil, fmt.Errorf("the parameter %s: %w", p.Name, err)
	}
	return read, nil
}

func (p *Parameter) readText(value string) (string, error) {
	switch {
	case len(p.Choices) > 0 && !slices.Contains(p.Choices, value):
		return "", fmt.Errorf("%q is none of %s", value, strings.Join(p.Choices, ", "))
	case !printable(value):
		return "", errors.New("the value holds characters that cannot be seen: write one line of text")
	}
	return value, nil
}

// readURL checks what expressions append a path to. Its errors hold nothing of it.
func readURL(value string) (string, error) {
	u, err := url.Parse(value)
	switch {
	case err != nil || !printable(value) || strings.ContainsFunc(value, unicode.IsSpace):
		return "", errors.New("the URL does not parse: write http:// or https:// and a host, such as https://lms.example.org")
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return "", errors.New("the URL is not absolute: write http:// or https:// and a host, such as https://lms.example.org")
	case u.User != nil:
		return "", errors.New("the URL has credentials in it: write it without, because the receiver gets it")
	case strings.ContainsAny(value, "?#"):
		return "", errors.New("the URL has a query or a fragment: write it without, because a path is appended")
	}
	return strings.TrimRight(value, "/"), nil
}

func readList(value string) ([]string, error) {
	var words []string
	for word := range strings.SplitSeq(value, ",") {
		word = strings.TrimSpace(word)
		switch {
		case word == "":
			return nil, errors.New("the list has an empty place: write words with a comma between each two, such as en,fr")
		case !printable(word) || strings.ContainsFunc(word, unicode.IsSpace):
			return nil, fmt.Errorf("%q in the list is more than one word: write a comma between each two", word)
		case slices.Contains(words, word):
			return nil, fmt.Errorf("%q is in the list twice", word)
		}
		words = append(words, word)
	}
	return words, nil
}

// printable reports whether all of the text can be seen.
func printable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsGraphic(r) })
}
