package payload

import "strings"

const (
	// maxDepth is how deep below a field of the data the plugin goes.
	maxDepth = 15
	// depthReached stands for everything below.
	depthReached = "! Depth limit reached !"
)

// Redact returns v as the plugin's object_serializer and redact_sensitive_fields make it: entries of objects whose key
// names a credential or begins with "_" dropped at every depth, what lies deeper than 15 replaced by a text, bytes
// replaced by their str(). Where nothing changes, v itself is returned and nothing is copied.
func Redact(v Value) Value {
	v, _ = redact(v, 0)
	return v
}

func redact(v Value, depth int) (Value, bool) {
	if depth > maxDepth {
		return StringValue(depthReached), true
	}
	switch v.kind {
	case Bytes:
		return StringValue(string(appendBytesRepr(nil, v.text))), true
	case List:
		return redactItems(v, depth, false)
	case Object:
		return redactItems(v, depth, true)
	default:
		return v, false
	}
}

// redactItems copies the items from the first one on that is dropped or changed.
func redactItems(v Value, depth int, dropPrivate bool) (Value, bool) {
	keys, items := v.names(), v.list()
	var newKeys []string
	var newItems []Value
	changed := false
	for i, item := range items {
		drop := keys != nil && (dropPrivate && strings.HasPrefix(keys[i], "_") || isSensitive(keys[i]))
		itemChanged := false
		if !drop {
			item, itemChanged = redact(item, depth+1)
		}
		if !changed && (drop || itemChanged) {
			changed = true
			newItems = append(make([]Value, 0, len(items)), items[:i]...)
			if keys != nil {
				newKeys = append(make([]string, 0, len(keys)), keys[:i]...)
			}
		}
		if changed && !drop {
			newItems = append(newItems, item)
			if keys != nil {
				newKeys = append(newKeys, keys[i])
			}
		}
	}
	switch {
	case !changed:
		return v, false
	case v.kind == List:
		return ListValue(newItems), true
	}
	return ObjectValue(newKeys, newItems), true
}

// redactData is what the plugin does with the data of an event. The fields of a data class itself are counted from
// depth 0 each, and those that begin with "_" stay: attrs turns that object into a dict before the serializer sees it.
func redactData(v Value) Value {
	if v.kind != Object {
		return Redact(v)
	}
	v, _ = redactItems(v, -1, false)
	return v
}

// longestSensitive is the length in bytes of the longest sensitive key; a K may be the Kelvin sign of three bytes.
const longestSensitive = len("csrfmiddlewaretoken") + 2*1

// isSensitive tells whether key.lower() in Python is one of the plugin's sensitive fields. The only character outside of
// ASCII whose lower case is within it alone is the Kelvin sign.
func isSensitive(key string) bool {
	if len(key) < len("token") || len(key) > longestSensitive {
		return false
	}
	// The last letters of all sensitive keys rule out nearly every other key.
	switch key[len(key)-1] {
	case 'd', 'D', 'n', 'N', '1', '2', 't', 'T', 'e', 'E':
	default:
		return false
	}
	var room [longestSensitive]byte
	lower := room[:0]
	for i := 0; i < len(key); i++ {
		c := key[i]
		switch {
		case 'A' <= c && c <= 'Z':
			c |= 0x20
		case c == 0xe2 && strings.HasPrefix(key[i:], "\u212a"):
			c = 'k'
			i += 2
		case c >= 0x80:
			return false
		}
		lower = append(lower, c)
	}
	switch string(lower) {
	case "password", "password1", "password2", "old_password", "new_password", "token", "id_token", "access_token",
		"refresh_token", "client_secret", "authorization", "cookie", "csrfmiddlewaretoken":
		return true
	}
	return false
}
