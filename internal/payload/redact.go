package payload

import "strings"

const (
	maxDepth     = 15                        // the plugin's limit, counted from a field of the data
	depthReached = "! Depth limit reached !" // replaces everything below maxDepth
)

// Redact does what the plugin's object_serializer and redact_sensitive_fields do: at every depth it
// drops entries whose key names a credential or begins with "_"; values deeper than 15 are replaced
// by a text, and bytes by their str(). If nothing changes, it returns v without a copy.
func Redact(v Value) Value {
	v, _ = redact(v, 0)
	return v
}

func redact(v Value, depth int) (Value, bool) {
	switch {
	case depth > maxDepth:
		return StringValue(depthReached), true
	case v.kind == Bytes:
		return StringValue(string(appendBytesRepr(nil, v.text))), true
	case v.kind == List, v.kind == Object:
		return redactItems(v, depth, v.kind == Object)
	}
	return v, false
}

// redactItems starts to copy at the first item that is dropped or changed.
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

// redactData does what the plugin does with the data of an event: the fields of the data class are
// at depth 0, and those that begin with "_" stay, because attrs makes a dict of it before.
func redactData(v Value) Value {
	if v.kind != Object {
		return Redact(v)
	}
	v, _ = redactItems(v, -1, false)
	return v
}

// longestSensitive is the longest sensitive key in bytes. A k may be the Kelvin sign: three bytes.
const longestSensitive = len("csrfmiddlewaretoken") + 2*1

// isSensitive reports whether key.lower() in Python is one of the plugin's sensitive fields. The
// Kelvin sign is the only character outside ASCII with a lower case in ASCII.
func isSensitive(key string) bool {
	if len(key) < len("token") || len(key) > longestSensitive {
		return false
	}
	// The last letter rules out nearly every other key.
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
