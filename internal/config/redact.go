package config

import (
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"time"
)

// Redacted returns every setting with its value, for the debug log. Secrets are [set] or empty, and
// URLs have no user info.
func (c *Config) Redacted() []slog.Attr {
	var attrs []slog.Attr
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if field.Anonymous {
				walk(v.Field(i))
				continue
			}
			attrs = append(attrs, slog.String(field.Tag.Get("setting"), shown(v.Field(i).Interface())))
		}
	}
	walk(reflect.ValueOf(*c))
	return attrs
}

func shown(value any) string {
	switch value := value.(type) {
	case string:
		if u, err := url.Parse(value); err == nil && u.User != nil {
			u.User = nil
			return u.String()
		}
		return value
	case Secret:
		return value.String()
	case []string:
		return strings.Join(value, listSeparator)
	case []time.Duration:
		return join(value)
	case []netip.Prefix:
		return join(value)
	default:
		return fmt.Sprint(value)
	}
}

func join[T fmt.Stringer](items []T) string {
	texts := make([]string, len(items))
	for i, item := range items {
		texts[i] = item.String()
	}
	return strings.Join(texts, listSeparator)
}
