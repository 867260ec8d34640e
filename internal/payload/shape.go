package payload

import (
	"cmp"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Shape is how the parts of an event are arranged in a body.
type Shape uint8

// The shapes.
const (
	ShapePlugin      Shape = iota // the plugin's: {"<class path>": {…}, "event_metadata": {…}}
	ShapeCloudEvents              // a CloudEvent 1.0 in the JSON event format
	ShapeStandard                 // {"type": …, "timestamp": …, "data": …}, as Standard Webhooks recommends
)

var shapeNames = [...]string{"plugin", "cloudevents", "standard"}

// String returns the name that options use.
func (s Shape) String() string { return shapeNames[s] }

// ParseShape reads a shape's name; "" is ShapePlugin.
func ParseShape(name string) (Shape, error) {
	i := slices.Index(shapeNames[:], cmp.Or(name, shapeNames[ShapePlugin]))
	if i < 0 {
		return 0, fmt.Errorf("unknown shape %q: write one of plugin, cloudevents, standard", name)
	}
	return Shape(i), nil
}

// Shaped returns the redacted body of the event in the shape, before it is encoded. In the standard
// shapes NaN and infinities become null, as JSON has none; the plugin's keeps them.
func (m *Message) Shaped(s Shape) Value {
	body := m.Payload()
	if s == ShapePlugin {
		return body
	}
	return m.Wrap(s, Data(body))
}

// Wrap returns the body with v in place of the data, or v itself for ShapePlugin.
func (m *Message) Wrap(s Shape, v Value) Value {
	switch s {
	case ShapeCloudEvents:
		return m.cloudEvent(finite(v))
	case ShapeStandard:
		return ObjectValue(standardKeys, []Value{StringValue(m.Event.Type), StringValue(timestamp(m.Event.Time)), finite(v)})
	default:
		return v
	}
}

var standardKeys = []string{"type", "timestamp", "data"}

// Data returns the data of what Payload returned: the value of its class path, or an object of all
// of them if there is not exactly one.
func Data(body Value) Value {
	keys, items := body.names(), body.list()
	last := len(items) - 1 // the metadata
	if last == 1 {
		return items[0]
	}
	return ObjectValue(keys[:last:last], items[:last:last])
}

// timestamp is RFC 3339 in UTC, to the microsecond.
func timestamp(t time.Time) string {
	return t.UTC().Truncate(time.Microsecond).Format("2006-01-02T15:04:05.999999Z")
}

// cloudEvent returns a CloudEvent 1.0 in the JSON event format, without empty extensions.
func (m *Message) cloudEvent(data Value) Value {
	e := &m.Event
	var o Entries
	o.Grow(12)
	set := func(name, text string) { o.Set(name, StringValue(text)) }
	set("specversion", "1.0")
	set("id", e.ID)
	set("source", uriReference(e.Source))
	set("type", e.Type)
	set("time", timestamp(e.Time))
	set("datacontenttype", "application/json")
	if e.SourceHost != "" {
		set("sourcehost", e.SourceHost)
	}
	if e.MinorVersion == int64(int32(e.MinorVersion)) { // an Integer of CloudEvents has 32 bits
		o.Set("minorversion", IntValue(e.MinorVersion))
	} else {
		set("minorversion", strconv.FormatInt(e.MinorVersion, 10))
	}
	if len(e.SourceLib) > 0 {
		set("sourcelib", dotted(e.SourceLib))
	}
	if e.Traceparent != "" {
		set("traceparent", e.Traceparent)
	}
	o.Set("data", data)
	return o.Object()
}

func dotted(version []int64) string {
	var text []byte
	for i, n := range version {
		if i > 0 {
			text = append(text, '.')
		}
		text = strconv.AppendInt(text, n, 10)
	}
	return string(text)
}

// uriReference returns the source as a non-empty URI reference, which CloudEvents require. The
// paths that Open edX sends, such as openedx/lms/web, stay as they are; anything that is not a
// reference becomes a path of one segment, percent-encoded.
func uriReference(source string) string {
	if source == "" {
		return "openedx"
	}
	if _, err := url.Parse(source); err == nil && !strings.ContainsFunc(source, notInURI) {
		return source
	}
	return strings.ReplaceAll(url.PathEscape(source), ":", "%3A")
}

// notInURI reports whether RFC 3986 does not allow the character.
func notInURI(r rune) bool {
	return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-._~:/?#[]@!$&'()*+,;=%", r)
}

// finite returns v with null for each NaN and infinity, or v itself if it has none.
func finite(v Value) Value {
	switch v.kind {
	case Float:
		if f := v.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			return Value{}
		}
	case List, Object:
		var items []Value
		for i, item := range v.list() {
			made := finite(item)
			if items == nil && made != item {
				items = slices.Clone(v.list())
			}
			if items != nil {
				items[i] = made
			}
		}
		if items != nil {
			return Value{kind: v.kind, sub: &compound{items: items, keys: v.names()}}
		}
	default:
	}
	return v
}
