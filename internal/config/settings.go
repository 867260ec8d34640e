package config

import (
	"iter"
	"reflect"
	"strings"
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

// flagName returns a setting's flag and YAML key: the environment name without its prefix, in lower
// case, with hyphens.
func flagName(env string) string {
	name := strings.TrimPrefix(strings.TrimPrefix(env, ownPrefix), busPrefix)
	return strings.ToLower(strings.ReplaceAll(name, "_", "-"))
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
