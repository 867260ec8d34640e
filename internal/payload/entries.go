package payload

import "slices"

// Entries collects the entries of an Object as a Python dict does: a key that is set again keeps
// its position and takes the new value. The zero Entries is empty; it is for one goroutine.
type Entries struct {
	keys  []string
	items []Value
	index map[string]int
}

// manyEntries is the number of entries above which a map is faster than a scan.
const manyEntries = 16

// Set sets the value of key.
func (e *Entries) Set(key string, v Value) {
	if i, ok := e.find(key); ok {
		e.items[i] = v
		return
	}
	if e.index != nil {
		e.index[key] = len(e.keys)
	}
	e.keys = append(e.keys, key)
	e.items = append(e.items, v)
}

func (e *Entries) find(key string) (int, bool) {
	if len(e.keys) < manyEntries {
		for i, k := range e.keys {
			if k == key {
				return i, true
			}
		}
		return 0, false
	}
	if e.index == nil {
		e.index = make(map[string]int, 2*len(e.keys))
		for i, k := range e.keys {
			e.index[k] = i
		}
	}
	i, ok := e.index[key]
	return i, ok
}

// Object returns the entries. Set must not be called afterwards.
func (e *Entries) Object() Value { return ObjectValue(e.keys, e.items) }

// Grow makes room for n more entries.
func (e *Entries) Grow(n int) {
	e.keys = slices.Grow(e.keys, n)
	e.items = slices.Grow(e.items, n)
}
