package rule

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/suggest"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// Opener opens what a rule's secrets are sealed in. An error's text may be shown and logged.
type Opener interface {
	Open(key Key, field, keyID string, sealed []byte) ([]byte, error)
}

// SecretsField is the field of a rule that Opener opens.
const SecretsField = "secrets"

// Compiler makes rules of rows. It is immutable.
type Compiler struct {
	Catalogue *schema.Catalogue // required
	Adopted   bool              // only adopted rows are rules; see Entry
	Opener    Opener            // opens secrets; nil opens none, and holds the rules that have some
	// Scheme is the scheme of the settings, which signs for rules that have none of their own: a name of signature.Named, or "none" or ""
	// for none. A rule whose options need the header that this scheme signs in is held.
	Scheme string
	Now    func() time.Time // the clock; nil means time.Now
}

// Compile makes a rule of a row of the webhook table and its options, or says in one line what is wrong with the row and what to do. The
// error may be shown and logged: of the URL it holds the scheme at most.
//
// hold says in one line why nothing may be sent to the rule though the row is good, "" where all is well: its options cannot be read or
// used, or somebody has changed the URL that its secrets were meant for. Events are matched and wait as rows meanwhile.
func (c *Compiler) Compile(row Row, d Document, s Secrets) (r *Rule, hold string, err error) {
	return c.compile(row, &opened{document: d, secrets: s})
}

// compile does what Compile does with options as they could be read.
func (c *Compiler) compile(row Row, o *opened) (r *Rule, hold string, err error) {
	eventType, err := c.eventType(row.Event, o.document.EventType)
	if err != nil && o.unread != nil && strings.TrimRight(row.Event, " ") == "" {
		err = o.unread // they hold the event type
	}
	if err != nil {
		return nil, "", oneLine(err)
	}
	if r, err = newRule(row, Webhooks, eventType); err != nil {
		return nil, "", err
	}
	if err = o.unread; err == nil {
		err = r.build(&o.document)
	}
	if r.Unread = err != nil; err == nil {
		err = r.authorize(c, o)
	}
	if err != nil {
		hold = oneLine(err).Error()
	}
	return r, hold, nil
}

// newRule returns the rule of a row, without its options. With an error, which says what is wrong with the URL, its Target is empty.
func newRule(row Row, table Table, eventType string) (*Rule, error) {
	row.URL = strings.TrimLeft(row.URL, spaces)
	r := &Rule{Row: row, Kind: table.Kind(), EventType: eventType, Format: delivery.FormatJSON}
	if row.Form {
		r.Format = delivery.FormatForm
	}
	u, err := ParseURL(row.URL)
	if err == nil {
		r.Target = target(u, row.URL)
	}
	return r, err
}

// maxHold bounds what is said of a rule, in characters: parts of it may be an expression.
const maxHold = 500

// oneLine returns an error whose text can stand in a list. Errors that people have to tell apart are left as they are.
func oneLine(err error) error {
	text := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(suggest.Clip(err.Error(), maxHold), "\uFFFD"))
	if text == err.Error() {
		return err
	}
	return errors.New(text)
}

// dotted is how event types look. Two of them hold a hyphen or an underscore.
var dotted = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+$`)

// eventType finds the event that a row and its options name: one of the two.
func (c *Compiler) eventType(event, option string) (string, error) {
	if option == "" {
		return eventType(event, c.Catalogue)
	}
	if strings.TrimRight(event, " ") != "" {
		return "", fmt.Errorf("the row names the event %q, and its options the event type %q: leave one of the two empty",
			suggest.Clip(event, MaxEvent), suggest.Clip(option, delivery.MaxText))
	}
	if signal, ok := c.Catalogue.ByType(option); ok && !signal.OnBus {
		return "", fmt.Errorf("the event type %s never comes: the event bus cannot serialise its data", option)
	}
	if len(option) > delivery.MaxText || !dotted.MatchString(option) {
		return "", fmt.Errorf("%q is not an event type: write one such as org.openedx.learning.course.enrollment.created.v1",
			suggest.Clip(option, delivery.MaxText))
	}
	return option, nil
}

// allConstants is where to look when a text names no event.
const allConstants = "webhook-dispatcher events list shows all"

// eventType finds the event that a row names. The column holds a signal constant, compared without regard to case and to
// spaces at its end as MySQL does it; an event type fits it if it is short, and need not be in the catalogue.
func eventType(event string, catalogue *schema.Catalogue) (string, error) {
	event = strings.TrimRight(event, " ")
	busType, known, err := busEvent(event, catalogue)
	switch {
	case utf8.RuneCountInString(event) > MaxEvent:
		return "", fmt.Errorf("the event has more than %d characters: write a signal's constant", MaxEvent)
	case event == "":
		return "", errors.New("the event is empty: write a signal's constant, such as COURSE_ENROLLMENT_CREATED; " + allConstants)
	case known || err != nil:
		return busType, err
	case FindFilter(event) != nil:
		return "", fmt.Errorf("%q is the name of a filter, not of an event: a filter's row belongs in the webfilter table", event)
	}
	var constants []string // those that can come
	for _, signal := range catalogue.Signals() {
		if signal.OnBus {
			constants = append(constants, signal.Constant)
		}
	}
	if near := suggest.Nearest(event, constants); near != "" {
		return "", fmt.Errorf("unknown event %q: did you mean %s? %s", event, near, allConstants)
	}
	return "", fmt.Errorf("unknown event %q: write a signal's constant, such as COURSE_ENROLLMENT_CREATED; %s", event, allConstants)
}

// busEvent returns the type of the event of the bus that text names, by constant or by type. known
// is false for a text that names none; a signal that cannot come by the bus is an error.
func busEvent(text string, catalogue *schema.Catalogue) (eventType string, known bool, err error) {
	signal, known := catalogue.ByConstant(text)
	if !known {
		signal, known = catalogue.ByType(text)
	}
	switch {
	case known && !signal.OnBus:
		return "", true, fmt.Errorf("the event %s never comes: the event bus cannot serialise its data", signal.Constant)
	case known:
		return signal.Type, true, nil
	}
	return text, dotted.MatchString(text), nil
}
