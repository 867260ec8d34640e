package rule

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path"
	"regexp"
	"strings"
	"unicode/utf8"
)

// FilterPath is what the path of the dispatcher's filter endpoint begins with; the name of the filter follows.
const FilterPath = "/filters/v1/"

// HopHeader marks the requests for filters. The filter endpoint refuses it: a row whose URL leads back there would call itself endlessly.
const HopHeader = "X-Webhook-Dispatcher-Hop"

// WebfilterRow is a row of openedx_webhooks_webfilter as stored. Its Event is a filter's name, a signal constant, or an event's type.
type WebfilterRow struct {
	Row
	Description string
	WebfilterFlags
}

// WebfilterFlags are the columns that only webfilter rows have. The redirects are URLs, or empty.
type WebfilterFlags struct {
	DisableFiltering           bool // data of answers is left out
	DisableHalt                bool // exceptions of answers are left out
	HaltOn4xx                  bool
	RedirectOn4xx              string
	HaltOn5xx                  bool
	RedirectOn5xx              string
	HaltOnRequestException     bool
	RedirectOnRequestException string
}

// Webfilter is a webfilter row that can be called. It is immutable. Its Kind is delivery.KindEvent, its EventType the name of the filter as
// FilterName has it, or an event's type. Its requests carry HopHeader.
//
// The two never meet, so that no request of the LMS calls a row of the bus, and no event one of the request: every type that a rule can
// want has a dot in it, and no name of a filter has one.
type Webfilter struct {
	*Rule
	WebfilterFlags
	// Hold says why the row must not be called, "" where it may be. The plugin would fail to send to such a row, which may halt: so
	// must whoever goes through rows take it for one that gave no answer, and not for one that is not there.
	Hold string
	// Waits is set where Hold is because of the row's options: secrets that cannot be opened, or were meant for another URL. Its event of
	// the bus waits for it as a row, as a delivery of such a rule does: it may be there to take something out. In the request nobody waits.
	Waits bool
}

// CompileWebfilter makes a webfilter of a row and its options, or says in one line what is wrong with the row's event, the only fault for
// which there is no webfilter. The error may be shown and logged. No database is asked.
//
// hold, which is the webfilter's Hold, says in one line why nothing may be sent to it: its URL is none that can be sent to or leads back to
// the dispatcher, its options cannot be read or used, or somebody has changed the URL that its secrets were meant for.
func (c *Compiler) CompileWebfilter(row WebfilterRow, d Document, s Secrets) (f *Webfilter, hold string, err error) {
	if f, err = c.webfilter(row, &opened{document: d, secrets: s}); err != nil {
		return nil, "", err
	}
	return f, f.Hold, nil
}

// webfilter does what CompileWebfilter does with options as they could be read.
func (c *Compiler) webfilter(row WebfilterRow, o *opened) (*Webfilter, error) {
	event, err := c.filterEvent(row.Event)
	if err != nil {
		return nil, oneLine(err)
	}
	f := &Webfilter{WebfilterFlags: row.WebfilterFlags}
	if f.Rule, err = newRule(row.Row, Webfilters, event); err == nil {
		err = f.prepare(c, o)
	}
	if err != nil {
		f.Hold = oneLine(err).Error()
	}
	return f, nil
}

// prepare takes over the options.
func (f *Webfilter) prepare(c *Compiler, o *opened) error {
	if f.LeadsBack() {
		return errors.New("its URL is the filter endpoint of a dispatcher, which would call the row again: give the URL of the service itself")
	}
	err := cmp.Or(o.unread, o.document.fitsFilter(), f.limit(&o.document))
	if err == nil {
		err = f.authorize(c, o)
	}
	if err != nil {
		f.Waits = true
		return err
	}
	access := *cmp.Or(f.Access, &Access{})
	header := make(map[string]string, len(access.Header)+1)
	maps.Copy(header, access.Header)
	header[HopHeader] = "1"
	access.Header, f.Access = header, &access
	return nil
}

// same reports whether two rows say the same.
func (r *WebfilterRow) same(other *WebfilterRow) bool {
	return r.Same(&other.Row) && r.WebfilterFlags == other.WebfilterFlags && r.Description == other.Description
}

// fitsFilter says which option has no meaning for a filter, whose caller waits for the answer. A filter that ignored it would send what
// the operator did not want sent, or more often.
func (d *Document) fitsFilter() error {
	for _, o := range [...]struct {
		name string
		set  bool
	}{
		{"filter", d.Filter != ""},
		{"transform", d.Transform != ""},
		{"shape", d.Shape != "" && d.Shape != "plugin"},
		{"event_type", d.EventType != ""},
		{"rate", d.Rate != 0},
		{"concurrency", d.Concurrency != 0},
		{"retry_schedule", len(d.RetrySchedule) > 0},
	} {
		if o.set {
			return fmt.Errorf("the option %s is for webhooks, and has no meaning for a webfilter: remove it", o.name)
		}
	}
	return nil
}

// LeadsBack reports whether the URL has the path of a filter endpoint. The host is not looked at: a dispatcher does not know all names that
// lead to it, and what this lets through HopHeader stops.
func (f *Webfilter) LeadsBack() bool {
	u, err := url.Parse(f.URL)
	if err != nil {
		return false
	}
	name, found := strings.CutPrefix(path.Clean(u.Path), FilterPath)
	return found && (FindFilter(name) != nil || strings.EqualFold(name, f.EventType))
}

// filterName is how filters are called: by the name of a Python class. Other callers may use hyphens.
var filterName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// isType reports whether the event of a Webfilter is the type of an event of the bus, and not the name of a filter.
func isType(event string) bool { return strings.Contains(event, ".") }

// filterEvent finds what a row names: a filter, or an event of the bus.
func (c *Compiler) filterEvent(event string) (string, error) {
	event = strings.TrimRight(event, " ")
	busType, known, err := busEvent(event, c.Catalogue)
	switch {
	case event == "":
		return "", errors.New("the event is empty: write the name of a filter, such as CourseEnrollmentStarted")
	case utf8.RuneCountInString(event) > MaxEvent:
		return "", fmt.Errorf("the event has more than %d characters: write the name of a filter", MaxEvent)
	case known || err != nil:
		return busType, err
	case !filterName.MatchString(event):
		return "", fmt.Errorf("%q is not the name of a filter: write one such as CourseEnrollmentStarted, or a signal's constant", event)
	}
	return FilterName(event), nil
}
