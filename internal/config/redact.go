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
	for field, value := range fields(reflect.ValueOf(*c)) {
		attrs = append(attrs, slog.String(field.Tag.Get("setting"), shown(value.Interface())))
	}
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
