package config

import (
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

// allSettings returns every setting: those of Config in field order, then File's, then
// laterSettings.
func allSettings() []setting {
	var list []setting
	var walk func(t reflect.Type, inFile bool)
	walk = func(t reflect.Type, inFile bool) {
		for f := range t.Fields() {
			if f.Anonymous {
				walk(f.Type, inFile)
				continue
			}
			env := f.Tag.Get("setting")
			list = append(list, setting{
				env: env, field: f.Name, secret: f.Type == reflect.TypeFor[Secret](), inFile: inFile,
			})
		}
	}
	walk(reflect.TypeFor[Config](), true)
	walk(reflect.TypeFor[File](), false)
	return append(list, laterSettings()...)
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
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if field.Anonymous {
				walk(v.Field(i))
				continue
			}
			text, ok := field.Tag.Lookup("default")
			if !ok {
				continue
			}
			if err := setValue(v.Field(i), field.Tag, text); err != nil {
				panic("config: the default of " + field.Name + ": " + err.Error()) // a mistake in the tags of Config
			}
		}
	}
	walk(reflect.ValueOf(&c).Elem())
	return c
}
