package payload

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"
)

// AppendForm appends the fields of an Object as the plugin's form encoding writes them: nested
// objects flattened with "_" between keys, every other value by Python's str(), then
// application/x-www-form-urlencoded. A list gives one field with its repr, an empty object or what
// is no Object none. Where paths join to one key, its first place and last value count.
func AppendForm(dst []byte, v Value) []byte {
	if v.kind != Object {
		return dst
	}
	var room struct { // one allocation
		prefix  [192]byte
		scratch [128]byte
		spans   [48]span
	}
	w := formWriter{dst: dst, prefix: room.prefix[:0], scratch: room.scratch[:0], spans: room.spans[:0]}
	if w.object(v) {
		return w.dst
	}
	return appendFormMerged(dst, v)
}

// span is the position of a key in the body, with its last bytes to compare first.
type span struct {
	begin, end int
	tail       uint64
}

// manySpans is the number of keys above which a map is faster than a scan.
const manySpans = 96

type formWriter struct {
	dst     []byte
	prefix  []byte // the escaped, joined keys of the current path
	scratch []byte
	spans   []span
	seen    map[string]struct{}
}

// object appends all fields of v. It returns false if a key repeats.
func (w *formWriter) object(v Value) bool {
	keys := v.names()
	for i, item := range v.list() {
		parent := len(w.prefix)
		if parent > 0 { // the plugin joins nothing to an empty key
			w.prefix = append(w.prefix, '_')
		}
		w.prefix = appendQuoted(w.prefix, keys[i])
		if item.kind == Object && !w.object(item) || item.kind != Object && !w.field(item) {
			return false
		}
		w.prefix = w.prefix[:parent]
	}
	return true
}

func (w *formWriter) field(v Value) bool {
	if len(w.spans) > 0 {
		w.dst = append(w.dst, '&')
	}
	key := span{begin: len(w.dst)}
	w.dst = append(w.dst, w.prefix...)
	key.end = len(w.dst)
	if len(w.prefix) >= 8 {
		key.tail = binary.LittleEndian.Uint64(w.prefix[len(w.prefix)-8:])
	}
	if w.repeated(key) {
		return false
	}
	w.spans = append(w.spans, key)
	w.dst = append(w.dst, '=')
	w.dst, w.scratch = appendFormValue(w.dst, v, w.scratch)
	return true
}

func (w *formWriter) repeated(key span) bool {
	if len(w.spans) >= manySpans {
		if w.seen == nil {
			w.seen = make(map[string]struct{}, 2*len(w.spans))
			for _, s := range w.spans {
				w.seen[string(w.dst[s.begin:s.end])] = struct{}{}
			}
		}
		if _, ok := w.seen[string(w.prefix)]; ok {
			return true
		}
		w.seen[string(w.prefix)] = struct{}{}
		return false
	}
	for _, s := range w.spans {
		if s.tail == key.tail && s.end-s.begin == key.end-key.begin && bytes.Equal(w.dst[s.begin:s.end], w.prefix) {
			return true
		}
	}
	return false
}

// appendFormMerged is the slow path, for an object in which two paths join to the same key.
func appendFormMerged(dst []byte, v Value) []byte {
	var fields Entries
	var collect func(prefix string, v Value)
	collect = func(prefix string, v Value) {
		for i, item := range v.list() {
			key := v.names()[i]
			if prefix != "" {
				key = prefix + "_" + key
			}
			if item.kind == Object {
				collect(key, item)
			} else {
				fields.Set(key, item)
			}
		}
	}
	collect("", v)
	for i, key := range fields.keys {
		if i > 0 {
			dst = append(dst, '&')
		}
		dst = appendQuoted(dst, key)
		dst = append(dst, '=')
		dst, _ = appendFormValue(dst, fields.items[i], nil)
	}
	return dst
}

// appendFormValue appends str(v), quoted, and returns the scratch buffer for the next call.
func appendFormValue(dst []byte, v Value, scratch []byte) (grown, reuse []byte) {
	switch v.kind {
	case String:
		return appendQuoted(dst, v.text), scratch
	case Int:
		return strconv.AppendInt(dst, int64(v.bits), 10), scratch
	case Float:
		scratch = appendFloat(scratch[:0], math.Float64frombits(v.bits), "nan", "inf")
	default:
		scratch = appendRepr(scratch[:0], v)
	}
	return appendQuoted(dst, scratch), scratch
}

// formSafe holds the bytes that urllib.parse.quote_plus does not escape.
var formSafe = func() (safe [256]bool) {
	for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~" {
		safe[c] = true
	}
	return safe
}()

// appendQuoted appends urllib.parse.quote_plus(s).
func appendQuoted[T string | []byte](dst []byte, s T) []byte {
	const upperHex = "0123456789ABCDEF"
	begin := 0
	for i := range len(s) {
		c := s[i]
		if formSafe[c] {
			continue
		}
		dst = append(dst, s[begin:i]...)
		begin = i + 1
		if c == ' ' {
			dst = append(dst, '+')
		} else {
			dst = append(dst, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return append(dst, s[begin:]...)
}
