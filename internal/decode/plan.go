package decode

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/twmb/avro"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// Schema is a writer schema, compiled for each event type. It is safe for concurrent use.
type Schema struct {
	root  *avro.SchemaNode
	named map[string]*avro.SchemaNode // by full name
	plans sync.Map                    // event type → *plan
	count atomic.Int64                // of plans
}

// maxPlans bounds the plans kept for one schema: a producer can make up any number of event types.
const maxPlans = 256

// ParseSchema reads an Avro schema. Names may have other characters than Avro allows: one of the
// platform's has a hyphen. The error is an *Undecodable.
func ParseSchema(text string) (*Schema, error) {
	parsed, err := avro.Parse(text, avro.WithLaxNames(nil))
	if err != nil {
		return nil, NewUndecodable(ReasonBadSchema, "not an Avro schema: "+err.Error())
	}
	s := &Schema{root: parsed.Root(), named: make(map[string]*avro.SchemaNode)}
	if !isRecord(s.root) {
		return nil, NewUndecodable(ReasonBadSchema, "the schema is not a record")
	}
	s.collect(s.root)
	// This finds what cannot be compiled once, now, rather than at every record.
	if _, err := s.compile("", schema.Signal{}); err != nil {
		return nil, err
	}
	return s, nil
}

func isRecord(n *avro.SchemaNode) bool { return n.Type == "record" || n.Type == "error" }

// collect stores every definition below n under its full name.
func (s *Schema) collect(n *avro.SchemaNode) {
	switch n.Type { // an unused attribute may look like a definition
	case "enum", "fixed":
		s.named[fullName(n)] = n
	case "record", "error":
		s.named[fullName(n)] = n
		for i := range n.Fields {
			s.collect(&n.Fields[i].Type)
		}
	case "union":
		for i := range n.Branches {
			s.collect(&n.Branches[i])
		}
	case "array":
		s.collect(n.Items)
	case "map":
		s.collect(n.Values)
	}
}

func fullName(n *avro.SchemaNode) string {
	name := strings.TrimPrefix(n.Name, ".")
	if strings.Contains(n.Name, ".") || n.Namespace == "" {
		return name
	}
	return n.Namespace + "." + name
}

// scope returns the namespace of names within n.
func scope(n *avro.SchemaNode, enclosing string) string {
	if n.Name == "" {
		return enclosing
	}
	if i := strings.LastIndexByte(n.Name, '.'); i >= 0 {
		return n.Name[:i]
	}
	return n.Namespace
}

// definition returns n, or the type that it names from within a namespace.
func (s *Schema) definition(n *avro.SchemaNode, namespace string) (*avro.SchemaNode, error) {
	switch n.Type {
	case "null", "boolean", "int", "long", "float", "double", "bytes", "string", "record", "error", "enum", "fixed", "array", "map",
		"union":
		return n, nil
	}
	if !strings.Contains(n.Type, ".") && namespace != "" {
		if d, ok := s.named[namespace+"."+n.Type]; ok {
			return d, nil
		}
	}
	if d, ok := s.named[strings.TrimPrefix(n.Type, ".")]; ok {
		return d, nil
	}
	return nil, NewUndecodable(ReasonBadSchema, "the schema does not define the type "+n.Type)
}

// plan is how a record's value is read for one event type.
type plan struct {
	classes []string // a class path for each field of the schema's record
	names   []string
	fields  []*node
}

// plan returns the plan for an event type.
func (s *Schema) plan(catalogue *schema.Catalogue, eventType string) (*plan, error) {
	if p, ok := s.plans.Load(eventType); ok {
		return p.(*plan), nil
	}
	signal, _ := catalogue.ByType(eventType)
	p, err := s.compile(eventType, signal)
	if err != nil {
		return nil, err
	}
	if s.count.Load() < maxPlans {
		if _, loaded := s.plans.LoadOrStore(eventType, p); !loaded {
			s.count.Add(1)
		}
	}
	return p, nil
}

// read returns the data of an event: one entry for each field of the schema's record.
func (p *plan) read(value []byte) (payload.Value, error) {
	w := newWalker(value)
	items := w.build.Items(len(p.fields))
	for i, field := range p.fields {
		item, err := w.value(field)
		if err != nil {
			detail := fmt.Sprintf("%s, at byte %d of %d", inField(p.names[i], err), w.pos, len(value))
			return payload.Value{}, NewUndecodable(reasonOf(err), detail)
		}
		items[i] = item
	}
	if left := len(value) - w.pos; left > 0 {
		return payload.Value{}, NewUndecodable(ReasonTrailingBytes, fmt.Sprintf("%d of %d bytes are left over", left, len(value)))
	}
	return w.build.Object(p.classes, items), nil
}

// classPath names the class of a field's value as the plugin would: as in the catalogue if it is
// there, otherwise by the convention of openedx-events, openedx_events.<domain>.data.<record>. A
// field that is not a record just has its own name.
func (s *Schema) classPath(f *avro.SchemaField, namespace, eventType string, signal schema.Signal) string {
	if signal.Kwarg == f.Name && signal.Class != "" {
		return signal.Class
	}
	n := &f.Type
	if i := slices.IndexFunc(n.Branches, func(b avro.SchemaNode) bool { return b.Type != "null" }); n.Type == "union" && i >= 0 {
		n = &n.Branches[i]
	}
	d, err := s.definition(n, namespace)
	if err != nil || !isRecord(d) {
		return f.Name
	}
	record := d.Name[strings.LastIndexByte(d.Name, '.')+1:]
	if segments := strings.SplitN(eventType, ".", 4); len(segments) >= 3 {
		return "openedx_events." + segments[2] + ".data." + record
	}
	return "openedx_events.data." + record
}

// compile makes the plan of an event type; the zero signal is one that the catalogue does not know.
func (s *Schema) compile(eventType string, signal schema.Signal) (*plan, error) {
	c := compiler{schema: s, done: make(map[compiled]*node)}
	dates := datetimePaths(signal.Datetimes)
	namespace := scope(s.root, "")
	p := &plan{}
	for i := range s.root.Fields {
		f := &s.root.Fields[i]
		n, err := c.node(&f.Type, namespace, dates.at(f.Name))
		if err != nil {
			return nil, err
		}
		class := s.classPath(f, namespace, eventType, signal)
		if slices.Contains(p.classes, class) {
			class = f.Name // two arguments of one class
		}
		p.classes = append(p.classes, class)
		p.names = append(p.names, f.Name)
		p.fields = append(p.fields, n)
	}
	for _, n := range c.all {
		n.least()
	}
	return p, nil
}
