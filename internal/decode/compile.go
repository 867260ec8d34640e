package decode

import (
	"strings"

	"github.com/twmb/avro"
)

// dates is a tree of the paths of datetimes. The nil tree has none.
type dates struct {
	here  bool
	below map[string]*dates
}

// datetimePaths builds the tree of dotted paths; the part "*" is any item of an array or a map.
func datetimePaths(paths []string) *dates {
	if len(paths) == 0 {
		return nil
	}
	root := &dates{}
	for _, path := range paths {
		d := root
		for part := range strings.SplitSeq(path, ".") {
			if d.below == nil {
				d.below = make(map[string]*dates)
			}
			if d.below[part] == nil {
				d.below[part] = &dates{}
			}
			d = d.below[part]
		}
		d.here = true
	}
	return root
}

func (d *dates) at(part string) *dates {
	if d == nil {
		return nil
	}
	return d.below[part]
}

// compiler turns a schema into nodes: of a named type, one for each set of datetimes below it.
type compiler struct {
	schema *Schema
	done   map[compiled]*node
	all    []*node
}

type compiled struct {
	name  string
	dates *dates
}

var simple = map[string]op{
	"null": opNull, "boolean": opBool, "int": opInt, "long": opLong, "float": opFloat, "double": opDouble, "bytes": opBytes,
	"string": opString,
}

// node compiles n. It ignores logical types: the platform writes none.
func (c *compiler) node(n *avro.SchemaNode, namespace string, d *dates) (*node, error) {
	def, err := c.schema.definition(n, namespace)
	if err != nil {
		return nil, err
	}
	out := &node{min: -1}
	if def.Name != "" {
		key := compiled{fullName(def), d}
		if known, ok := c.done[key]; ok {
			return known, nil
		}
		c.done[key] = out // before the fields: one of them may be this type again
		namespace = scope(def, namespace)
	}
	c.all = append(c.all, out)
	if o, ok := simple[def.Type]; ok {
		out.op = o
		if o == opString && d != nil && d.here {
			out.op = opDatetime
		}
		return out, nil
	}
	switch def.Type {
	case "fixed":
		out.op, out.size = opFixed, def.Size
	case "enum":
		out.op, out.keys = opEnum, def.Symbols
	case "array":
		out.op = opArray
		err = c.add(out, def.Items, namespace, d.at("*"))
	case "map":
		out.op = opMap
		err = c.add(out, def.Values, namespace, d.at("*"))
	case "union":
		out.op = opUnion
		for i := range def.Branches {
			if err = c.add(out, &def.Branches[i], namespace, d); err != nil {
				break
			}
		}
	case "record", "error":
		out.op = opRecord
		for i := range def.Fields {
			f := &def.Fields[i]
			out.keys = append(out.keys, f.Name)
			if err = c.add(out, &f.Type, namespace, d.at(f.Name)); err != nil {
				break
			}
		}
	default:
		err = NewUndecodable(ReasonBadSchema, "the schema has the unknown type "+def.Type)
	}
	return out, err
}

func (c *compiler) add(parent *node, n *avro.SchemaNode, namespace string, d *dates) error {
	if n == nil {
		return NewUndecodable(ReasonBadSchema, "the schema has an array or a map of nothing")
	}
	child, err := c.node(n, namespace, d)
	parent.children = append(parent.children, child)
	return err
}

// manyBytes caps sums so that none overflows.
const manyBytes = 1 << 30

// least returns the least number of bytes that a value of n can take. A type within itself counts
// as none, which is safe: it only weakens the bound.
func (n *node) least() int {
	if n.min >= 0 {
		return n.min
	}
	n.min = 0
	least := 1
	switch n.op {
	case opNull:
		least = 0
	case opFloat:
		least = 4
	case opDouble:
		least = 8
	case opFixed:
		least = min(n.size, manyBytes)
	case opRecord:
		least = 0
		for _, child := range n.children {
			least = min(least+child.least(), manyBytes)
		}
	case opUnion:
		least = manyBytes
		for _, child := range n.children {
			least = min(least, 1+child.least())
		}
	default:
	}
	n.min = least
	return least
}
