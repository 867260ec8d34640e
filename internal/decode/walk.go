package decode

import (
	"encoding/binary"
	"errors"
	"math"
	"unicode/utf8"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
)

// Limits against hostile values, all far above what the platform sends.
const (
	maxDepth      = 1000 // of nesting, as in the Avro library
	maxEmptyItems = 4096 // in an array whose items may take no bytes at all
	// A value of n bytes may hold valuesAnyway + valuesPerByte*n values. More than one per byte is
	// possible because records and nulls take no bytes themselves.
	valuesAnyway  = 4096
	valuesPerByte = 8
	firstItems    = 16 // for which room is made before any has been read
)

type op uint8

const (
	opNull op = iota
	opBool
	opInt
	opLong
	opFloat
	opDouble
	opBytes
	opString
	opDatetime // a string that may hold a datetime
	opFixed
	opEnum
	opRecord
	opArray
	opMap
	opUnion
)

// node is one part of a compiled schema. Those of a recursive schema refer to each other.
type node struct {
	op       op
	keys     []string // a record's field names, an enum's symbols
	children []*node  // a record's fields, a union's branches, the item of an array, the value of a map
	size     int      // of fixed, in bytes
	min      int      // least number of bytes of a value, -1 until known
}

// walker reads one value. The text is the value: strings are parts of it.
type walker struct {
	text   string
	pos    int
	budget int // values that may still be made
	depth  int
	build  payload.Builder
}

func newWalker(value []byte) *walker {
	return &walker{text: string(value), budget: valuesAnyway + valuesPerByte*len(value)}
}

var (
	errShort    = errors.New("the value ends too early")
	errVarint   = errors.New("number of too many bytes")
	errLength   = errors.New("length out of range")
	errBranch   = errors.New("union branch out of range")
	errSymbol   = errors.New("enum symbol out of range")
	errCount    = errors.New("more items than the value can hold")
	errTooDeep  = errors.New("nested too deep")
	errTooLarge = errors.New("too many values")
	errUTF8     = errors.New("text is not UTF-8")
)

// reasonOf maps the errors of a walk to reasons.
func reasonOf(err error) Reason {
	switch {
	case errors.Is(err, errUTF8):
		return ReasonInvalidUTF8
	case errors.Is(err, errTooLarge), errors.Is(err, errTooDeep):
		return ReasonTooLarge
	}
	return ReasonCorrupt
}

func (w *walker) value(n *node) (payload.Value, error) {
	if w.budget--; w.budget < 0 {
		return payload.Value{}, errTooLarge
	}
	switch n.op {
	case opNull:
		return payload.Value{}, nil
	case opBool:
		b, err := w.take(1)
		return payload.BoolValue(err == nil && b[0] == 1), err // as Java and the library: only 1 is true
	case opInt:
		i, err := w.long()
		if err == nil && i != int64(int32(i)) {
			err = errVarint
		}
		return payload.IntValue(i), err
	case opLong:
		i, err := w.long()
		return payload.IntValue(i), err
	case opFloat:
		b, err := w.take(4)
		if err != nil {
			return payload.Value{}, err
		}
		return payload.FloatValue(float64(math.Float32frombits(binary.LittleEndian.Uint32([]byte(b))))), nil
	case opDouble:
		b, err := w.take(8)
		if err != nil {
			return payload.Value{}, err
		}
		return payload.FloatValue(math.Float64frombits(binary.LittleEndian.Uint64([]byte(b)))), nil
	case opBytes:
		b, err := w.sized()
		return payload.BytesValue(b), err
	case opString:
		s, err := w.str()
		return payload.StringValue(s), err
	case opDatetime:
		s, err := w.str()
		return payload.StringValue(pythonDatetime(s)), err
	case opFixed:
		b, err := w.take(n.size)
		return payload.BytesValue(b), err
	case opEnum:
		i, err := w.long()
		if err == nil && (i < 0 || i >= int64(len(n.keys))) {
			err = errSymbol
		}
		if err != nil {
			return payload.Value{}, err
		}
		return payload.StringValue(n.keys[i]), nil
	default:
		return w.nested(n)
	}
}

func (w *walker) nested(n *node) (payload.Value, error) {
	if w.depth >= maxDepth {
		return payload.Value{}, errTooDeep
	}
	w.depth++
	defer func() { w.depth-- }()
	switch n.op {
	case opRecord:
		return w.record(n)
	case opArray:
		return w.array(n)
	case opMap:
		return w.mapping(n)
	default: // opUnion
		i, err := w.long()
		if err == nil && (i < 0 || i >= int64(len(n.children))) {
			err = errBranch
		}
		if err != nil {
			return payload.Value{}, err
		}
		return w.value(n.children[i])
	}
}

func (w *walker) record(n *node) (payload.Value, error) {
	if len(n.children) > w.budget {
		return payload.Value{}, errTooLarge
	}
	items := w.build.Items(len(n.children))
	for i, child := range n.children {
		item, err := w.value(child)
		if err != nil {
			return payload.Value{}, inField(n.keys[i], err)
		}
		items[i] = item
	}
	return w.build.Object(n.keys, items), nil
}

// fieldError says where in the value an error happened.
type fieldError struct {
	path string
	err  error
}

func (e *fieldError) Error() string { return e.path + ": " + e.err.Error() }
func (e *fieldError) Unwrap() error { return e.err }

// maxPath bounds a path in an error: in a recursive schema it could have any length.
const maxPath = 100

// inField puts the name of a field before the path in err.
func inField(name string, err error) error {
	var inner *fieldError
	if !errors.As(err, &inner) {
		return &fieldError{path: name, err: err}
	}
	if len(inner.path) < maxPath {
		inner.path = name + "." + inner.path
	}
	return inner
}

func (w *walker) array(n *node) (payload.Value, error) {
	item := n.children[0]
	var items []payload.Value
	for {
		count, err := w.block()
		if err != nil {
			return payload.Value{}, err
		}
		if count == 0 {
			return w.build.List(items), nil
		}
		if item.min > 0 && count > int64((len(w.text)-w.pos)/item.min) || item.min == 0 && count > int64(maxEmptyItems-len(items)) {
			return payload.Value{}, errCount
		}
		if items == nil {
			items = w.build.Items(int(min(count, firstItems)))[:0]
		}
		for range count {
			v, err := w.value(item)
			if err != nil {
				return payload.Value{}, inField("*", err)
			}
			items = append(items, v)
		}
	}
}

func (w *walker) mapping(n *node) (payload.Value, error) {
	item := n.children[0]
	var entries payload.Entries
	for {
		count, err := w.block()
		if err != nil {
			return payload.Value{}, err
		}
		if count == 0 {
			return entries.Object(), nil
		}
		if count > int64((len(w.text)-w.pos)/(1+item.min)) {
			return payload.Value{}, errCount
		}
		entries.Grow(int(min(count, firstItems)))
		for range count {
			key, err := w.str()
			if err != nil {
				return payload.Value{}, inField("*", err)
			}
			v, err := w.value(item)
			if err != nil {
				return payload.Value{}, inField("*", err) // the key itself is data
			}
			entries.Set(key, v)
		}
	}
}

// block reads the head of a block of an array or a map: how many items follow, 0 at the end.
func (w *walker) block() (int64, error) {
	count, err := w.long()
	if err != nil || count >= 0 {
		return count, err
	}
	if _, err := w.long(); err != nil { // the size of the block in bytes, not needed
		return 0, err
	}
	if count = -count; count < 0 {
		return 0, errCount
	}
	return count, nil
}

// long reads a zigzag number of at most 64 bits.
func (w *walker) long() (int64, error) {
	var u uint64
	for shift := uint(0); shift < 64; shift += 7 {
		if w.pos >= len(w.text) {
			return 0, errShort
		}
		b := w.text[w.pos]
		w.pos++
		u |= uint64(b&0x7f) << shift
		if b < 0x80 {
			if shift == 63 && b > 1 {
				break
			}
			return int64(u>>1) ^ -int64(u&1), nil
		}
	}
	return 0, errVarint
}

func (w *walker) take(n int) (string, error) {
	if n < 0 || n > len(w.text)-w.pos {
		return "", errShort
	}
	s := w.text[w.pos : w.pos+n]
	w.pos += n
	return s, nil
}

func (w *walker) sized() (string, error) {
	n, err := w.long()
	if err != nil {
		return "", err
	}
	if n < 0 || n > int64(len(w.text)-w.pos) {
		return "", errLength
	}
	return w.take(int(n))
}

func (w *walker) str() (string, error) {
	s, err := w.sized()
	if err == nil && !utf8.ValidString(s) {
		return "", errUTF8
	}
	return s, err
}

// pythonDatetime turns what isoformat() wrote into what str() would: a space instead of the T.
func pythonDatetime(s string) string {
	const pattern = "dddd-dd-ddTdd:dd:dd"
	if len(s) < len(pattern) {
		return s
	}
	for i := range len(pattern) {
		if c := s[i]; pattern[i] == 'd' && (c < '0' || c > '9') || pattern[i] != 'd' && c != pattern[i] {
			return s
		}
	}
	return s[:10] + " " + s[11:]
}
