package config

import (
	"fmt"
	"iter"
	"log/slog"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"time"
)

const (
	ownPrefix = "WEBHOOK_DISPATCHER_"
	busPrefix = "EVENT_BUS_"
)

// setting is an entry of the list of all settings.
type setting struct {
	env    string
	field  string // of the struct, "" without one
	secret bool
	inFile bool // allowed in the YAML file
}

// flagName returns a setting's flag for its environment name or key of the YAML file: without
// prefix, in lower case, with hyphens for underscores and dots.
func flagName(name string) string {
	name = strings.TrimPrefix(strings.TrimPrefix(name, ownPrefix), busPrefix)
	return strings.ToLower(strings.NewReplacer("_", "-", ".", "-").Replace(name))
}

// fields yields the settings of a group, or of all the groups of Config, with their values.
func fields(group reflect.Value) iter.Seq2[reflect.StructField, reflect.Value] {
	return func(yield func(reflect.StructField, reflect.Value) bool) {
		for _, field := range reflect.VisibleFields(group.Type()) {
			if !field.Anonymous && !yield(field, group.FieldByIndex(field.Index)) {
				return
			}
		}
	}
}

// allSettings returns every setting: those of Config in field order, then File's, then
// laterSettings.
func allSettings() []setting {
	var list []setting
	add := func(group any, inFile bool) {
		for f := range fields(reflect.ValueOf(group)) {
			list = append(list, setting{f.Tag.Get("setting"), f.Name, f.Type == reflect.TypeFor[Secret](), inFile})
		}
	}
	add(Config{}, true)
	add(File{}, false)
	return append(list, laterSettings()...)
}

// laterSettings are settings of features that this version lacks. Known, so that one configuration
// serves several versions; giving one causes a warning.
func laterSettings() []setting {
	var list []setting
	for _, name := range []string{
		"API_LISTEN", "RECEIVER_LISTEN", "LMS_BASE_URL", "SHOPIFY_SHOP_DOMAIN", "WOOCOMMERCE_SOURCE", "WOOCOMMERCE_REQUIRE_PAYMENT",
		"SKU_PREFIX", "AUTO_ENROLL", "SEND_ENROLLMENT_EMAIL", "ENROLL_RETRIES", "ENROLL_RETRY_DELAY",
	} {
		list = append(list, setting{env: ownPrefix + name, inFile: true})
	}
	for _, name := range []string{
		"API_TOKENS", "LMS_OAUTH2_KEY", "LMS_OAUTH2_SECRET", "SHOPIFY_API_KEY", "WOOCOMMERCE_SECRET", "LERNITO_SECRET",
	} {
		list = append(list, setting{env: ownPrefix + name, secret: true, inFile: true},
			setting{env: ownPrefix + name + fileSuffix, inFile: true})
	}
	return list
}

// settingsBy indexes all settings.
func settingsBy(key func(setting) string) map[string]setting {
	index := make(map[string]setting)
	for _, s := range allSettings() {
		index[key(s)] = s
	}
	return index
}

// Default returns the defaults. Required settings are empty.
func Default() Config {
	var c Config
	for field, value := range fields(reflect.ValueOf(&c).Elem()) {
		if text, ok := field.Tag.Lookup("default"); ok {
			if err := setValue(value, field.Tag, text); err != nil {
				panic("config: the default of " + field.Name + ": " + err.Error()) // a mistake in the tags of Config
			}
		}
	}
	return c
}

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
