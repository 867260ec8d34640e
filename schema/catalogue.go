// Package schema embeds the catalogue of events and their Avro schemas, which the script `update`
// makes from the published Python packages, and the SQL migrations.
//
// The Avro schemas are samples for tests, documentation and the sandbox. Records on the bus are
// decoded with the schema that their writer registered.
package schema

import (
	"embed"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

//go:embed catalogue.json
var catalogueJSON []byte

//go:embed avro/*.avsc
var avroFiles embed.FS

// Signal is one event of the platform.
type Signal struct {
	// Type is the event type, such as "org.openedx.learning.course.enrollment.created.v1".
	Type string `json:"type"`
	// Constant is the Python name that rules use, such as "COURSE_ENROLLMENT_CREATED".
	Constant string `json:"constant"`
	// Kwarg is the name of the signal's one argument and of the one field of the Avro record.
	Kwarg string `json:"kwarg"`
	// Class is the path of the argument's class, such as
	// "openedx_events.learning.data.CourseEnrollmentData".
	Class string `json:"class"`
	// Datetimes are the paths of the fields with datetimes: they begin with Kwarg, are joined by
	// dots, and have "*" for every item of a list or a map.
	Datetimes []string `json:"datetimes"`
	// Minor is the minor version of the event type.
	Minor int `json:"minor"`
	// Plugin says that the openedx-webhooks plugin handles the event.
	Plugin bool `json:"plugin"`
	// OnBus says that the event bus can serialise the event.
	OnBus bool `json:"on_bus"`
}

// Catalogue holds the events of one release of openedx-events. It is immutable, results included.
type Catalogue struct {
	signals    []Signal
	byType     map[string]int
	byConstant map[string]int
	version    []int64
	release    string
}

// LoadCatalogue reads the embedded catalogue. An error means that its file was edited by hand.
func LoadCatalogue() (*Catalogue, error) { return parseCatalogue(catalogueJSON) }

func parseCatalogue(text []byte) (*Catalogue, error) {
	var file struct {
		Events  string   `json:"openedx_events"`
		Signals []Signal `json:"signals"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("read schema/catalogue.json: %w", err)
	}
	c := &Catalogue{
		signals:    file.Signals,
		byType:     make(map[string]int, len(file.Signals)),
		byConstant: make(map[string]int, len(file.Signals)),
		release:    file.Events,
	}
	for part := range strings.SplitSeq(file.Events, ".") {
		n, err := strconv.ParseInt(part, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read schema/catalogue.json: openedx_events %q: want numbers joined by dots", file.Events)
		}
		c.version = append(c.version, n)
	}
	for i, s := range file.Signals {
		constant := strings.ToUpper(s.Constant)
		if _, twice := c.byType[s.Type]; twice || s.Type == "" {
			return nil, fmt.Errorf("read schema/catalogue.json: type %q is empty or stands twice", s.Type)
		}
		if _, twice := c.byConstant[constant]; twice || constant == "" {
			return nil, fmt.Errorf("read schema/catalogue.json: constant %q is empty or stands twice", s.Constant)
		}
		c.byType[s.Type], c.byConstant[constant] = i, i
	}
	return c, nil
}

// ByType returns the signal with the event type.
func (c *Catalogue) ByType(eventType string) (Signal, bool) {
	i, ok := c.byType[eventType]
	if !ok {
		return Signal{}, false
	}
	return c.signals[i], true
}

// ByConstant returns the signal with the constant in any case, as MySQL compares it.
func (c *Catalogue) ByConstant(constant string) (Signal, bool) {
	i, ok := c.byConstant[strings.ToUpper(constant)]
	if !ok {
		return Signal{}, false
	}
	return c.signals[i], true
}

// Signals returns all signals by domain, in the order of openedx-events.
func (c *Catalogue) Signals() []Signal { return slices.Clone(c.signals) }

// Version returns the catalogue's version of openedx-events, such as {11, 2, 0}.
func (c *Catalogue) Version() []int64 { return slices.Clone(c.version) }

// Release returns Version as text, such as "11.2.0".
func (c *Catalogue) Release() string { return c.release }

// Avro returns the schema of the event type as JSON, if the type is known and can be on the bus.
func (c *Catalogue) Avro(eventType string) (string, bool) {
	if _, ok := c.byType[eventType]; !ok {
		return "", false
	}
	text, err := avroFiles.ReadFile("avro/" + eventType + ".avsc")
	if err != nil {
		return "", false
	}
	return string(text), true
}
