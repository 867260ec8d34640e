package rule

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// The plugin's columns hold this many characters.
const (
	MaxEvent = 50
	MaxURL   = 255
)

// Compile makes a rule of a row, or says in one line what is wrong with the row and what to do. The error may be shown and logged: of the
// URL it holds the scheme at most.
func Compile(row Row, catalogue *schema.Catalogue) (*Rule, error) {
	eventType, err := eventType(row.Event, catalogue)
	if err != nil {
		return nil, err
	}
	// The plugin's HTTP library cuts these spaces off too.
	row.URL = strings.TrimLeft(row.URL, " \t\r\n")
	target, err := target(row.URL)
	if err != nil {
		return nil, err
	}
	r := &Rule{Row: row, Kind: delivery.KindWebhook, EventType: eventType, Target: target, Format: delivery.FormatJSON}
	if row.Form {
		r.Format = delivery.FormatForm
	}
	return r, nil
}

// dotted is how event types look. Two of them hold a hyphen or an underscore.
var dotted = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+$`)

// eventType finds the event that a row names. The column holds a signal constant, compared without regard to case and to
// spaces at its end as MySQL does it; an event type fits it if it is short, and need not be in the catalogue.
func eventType(event string, catalogue *schema.Catalogue) (string, error) {
	event = strings.TrimRight(event, " ")
	if utf8.RuneCountInString(event) > MaxEvent {
		return "", fmt.Errorf("the event has more than %d characters: write a signal's constant", MaxEvent)
	}
	if event == "" {
		return "", errors.New("the event is empty: write a signal's constant, such as COURSE_ENROLLMENT_CREATED")
	}
	signal, ok := catalogue.ByConstant(event)
	if !ok {
		signal, ok = catalogue.ByType(event)
	}
	switch {
	case ok && !signal.OnBus:
		return "", fmt.Errorf("the event %s never comes: the event bus cannot serialise its data", signal.Constant)
	case ok:
		return signal.Type, nil
	case dotted.MatchString(event):
		return event, nil
	case isFilterName(event):
		return "", fmt.Errorf("%q is the name of a filter, not of an event: a filter's row belongs into the webfilter table", event)
	}
	return "", fmt.Errorf("unknown event %q: write a signal's constant, such as COURSE_ENROLLMENT_CREATED", event)
}

// target checks a URL and returns its scheme and host.
func target(raw string) (string, error) {
	if raw == "" {
		return "", errors.New("the URL is empty: write http:// or https:// and a host")
	}
	if utf8.RuneCountInString(raw) > MaxURL {
		return "", fmt.Errorf("the URL has more than %d characters", MaxURL)
	}
	if !utf8.ValidString(raw) || strings.ContainsFunc(raw, unicode.IsControl) {
		return "", errors.New("the URL holds control characters: write it without")
	}
	u, err := url.Parse(raw)
	if err != nil { // not wrapped: it holds the URL
		return "", errors.New("the URL does not parse: write http:// or https://, a host, and escape what is special")
	}
	switch {
	case u.Scheme == "":
		return "", errors.New("the URL has no scheme: write http:// or https:// before it")
	case u.Scheme != "http" && u.Scheme != "https":
		return "", fmt.Errorf("the URL's scheme %q cannot take webhooks: write http:// or https://", u.Scheme)
	case u.Opaque != "" || u.Hostname() == "":
		return "", errors.New("the URL has no host: write http://host/ or https://host/")
	case strings.ContainsFunc(u.Host, notInHost):
		return "", errors.New("the URL's host holds characters that no host has")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "", errors.New("the URL's port is not between 1 and 65535")
		}
	}
	shown := u.Scheme + "://" + strings.ToLower(u.Host)
	if strings.HasPrefix(raw, shown) {
		return raw[:len(shown)], nil // no memory of its own
	}
	return shown, nil
}

// notInHost keeps out of a host what could not be told apart in a log or on a terminal.
func notInHost(r rune) bool {
	return !unicode.IsGraphic(r) || unicode.IsSpace(r) || strings.ContainsRune("\"'<>\\^`{|}@,;", r)
}
