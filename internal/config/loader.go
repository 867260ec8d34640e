package config

import (
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/suggest"
)

// fileSuffix ends the names of settings that name a secret's file.
const fileSuffix = "_FILE"

// Loader fills groups of settings through kong from flags, the environment and the YAML file. It is
// for one parse and one goroutine.
type Loader struct {
	env      map[string]string
	byFlag   map[string]setting
	problems problems
	path     string // of the settings file, "" without one
	file     map[string]fileValue
	loaded   bool
}

// NewLoader returns a loader for environ, as os.Environ returns it. An empty variable counts as
// unset.
func NewLoader(environ []string) *Loader {
	l := &Loader{
		env: map[string]string{}, byFlag: settingsBy(func(s setting) string { return flagName(s.env) }),
		problems: problems{seen: map[string]bool{}, places: map[string]string{}},
	}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if delete(l.env, name); value != "" {
			l.env[name] = value
		}
	}
	return l
}

// Options makes kong treat struct fields with a setting tag as settings.
func (l *Loader) Options() []kong.Option {
	byField := settingsBy(func(s setting) string { return s.field })
	return []kong.Option{
		kong.FlagNamer(func(field string) string {
			if s, ok := byField[field]; ok && field != "" {
				return flagName(s.env)
			}
			return strings.ToLower(boundary.ReplaceAllString(field, "$1-$2"))
		}),
		kong.PostBuild(func(k *kong.Kong) error {
			help := helpTexts()
			return kong.Visit(k.Model, func(node kong.Visitable, next kong.Next) error {
				if flag, ok := node.(*kong.Flag); ok && flag.Tag.Has("setting") {
					env := flag.Tag.Get("setting")
					flag.Mapper = settingMapper{l}
					flag.Help, flag.OrigHelp = help[env]+" ($"+env+")", help[env]
				}
				return next(nil)
			})
		}),
		kong.Resolvers(l),
	}
}

// boundary matches between two words of a field's name.
var boundary = regexp.MustCompile(`([a-z0-9])([A-Z])`)

// settingMapper reads a setting's text. It collects errors, as kong would stop at the first.
type settingMapper struct{ l *Loader }

// Decode implements kong.Mapper.
func (m settingMapper) Decode(ctx *kong.DecodeContext, target reflect.Value) error {
	text := "true" // of a bool flag without =value
	if !ctx.Value.IsBool() || ctx.Scan.Peek().Type == kong.FlagValueToken {
		if err := ctx.Scan.PopValueInto("value", &text); err != nil {
			return err
		}
	}
	if err := setValue(target, ctx.Value.Tag, text); err != nil {
		env := ctx.Value.Tag.Get("setting")
		if m.l.byFlag[flagName(env)].secret {
			text = ""
		}
		m.l.problems.add(env, text, "%s", err)
	}
	return nil
}

// Validate implements kong.Resolver.
func (l *Loader) Validate(*kong.Application) error { return nil }

// Resolve implements kong.Resolver. kong calls it for each flag that is not on the command line.
func (l *Loader) Resolve(ctx *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	env := flag.Tag.Get("setting")
	if env == "" {
		return nil, nil
	}
	if !l.loaded {
		l.loaded = true
		l.load(l.filePath(ctx))
	}
	if value, ok := l.env[env]; ok {
		return value, nil
	}
	if value, ok := l.file[flagName(env)]; ok {
		l.problems.places[env] = fmt.Sprintf("%s:%d: %s", l.path, value.line, value.key)
		return value.text, nil
	}
	return nil, nil
}

const fileSetting = ownPrefix + "CONFIG"

func (l *Loader) filePath(ctx *kong.Context) string {
	for _, flag := range ctx.Flags() {
		if flag.Tag.Get("setting") != fileSetting {
			continue
		}
		if path, ok := ctx.FlagValue(flag).(string); ok && path != "" {
			return path
		}
	}
	return l.env[fileSetting]
}

func (l *Loader) load(path string) {
	if path == "" {
		return
	}
	data, err := readFile(path)
	if err != nil {
		l.problems.add(fileSetting, path, "cannot be read: %s", fileFault(err))
		l.problems.noFile = true
		return
	}
	values, faults := parseFile(path, data, l.byFlag)
	l.problems.noFile = values == nil && len(faults) > 0
	l.problems.list = append(l.problems.list, faults...)
	l.path, l.file = path, values
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("it is larger than %d bytes", maxFile)
	}
	return data, nil
}

// Group is a part of Config with its own checks.
type Group interface{ check(p *problems) }

// Finish completes and checks a command's groups after kong has parsed: it reads files of secrets
// and fills in derived defaults. It returns an *Error with everything that was wrong, including
// what kong passed on, or nil.
func (l *Loader) Finish(groups ...Group) error {
	for _, group := range groups {
		readSecretFiles(reflect.ValueOf(group).Elem(), &l.problems)
	}
	for _, group := range groups {
		group.check(&l.problems)
	}
	return l.problems.err()
}

// readSecretFiles fills each Secret X of a struct whose field XFile is set.
func readSecretFiles(group reflect.Value, p *problems) {
	for field, value := range fields(group) {
		secret, ok := reflect.TypeAssert[*Secret](value.Addr())
		if !ok {
			continue
		}
		path := group.FieldByName(field.Name + "File").String()
		if path == "" {
			continue
		}
		env := field.Tag.Get("setting")
		if *secret != "" {
			p.add(env, "", "is set, and so is %s: set one of the two", env+fileSuffix)
			continue
		}
		data, err := readFile(path)
		if err != nil {
			p.add(env+fileSuffix, path, "cannot be read: %s", fileFault(err))
			p.seen[env] = true
			continue
		}
		*secret = Secret(strings.TrimRight(string(data), "\r\n"))
		if *secret == "" {
			p.add(env+fileSuffix, path, "is an empty file")
			p.seen[env] = true
		}
	}
}

// serviceLink matches the variables that Kubernetes sets for a service named webhook-dispatcher….
var serviceLink = regexp.MustCompile(`^WEBHOOK_DISPATCHER_([A-Z0-9_]+_)?` +
	`(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// Warnings returns problems that stop nothing, one line each and without values: unknown variables
// that look like settings, settings of features that this version lacks, and what Finish found.
func (l *Loader) Warnings() []string {
	known := settingsBy(func(s setting) string { return s.env })
	var warnings []string
	for _, name := range slices.Sorted(maps.Keys(l.env)) {
		if _, ok := known[name]; ok || !strings.HasPrefix(name, ownPrefix) || serviceLink.MatchString(name) {
			continue
		}
		text := name + " is set, but there is no such setting: it has no effect"
		if near := suggest.Nearest(name, slices.Collect(maps.Keys(known))); near != "" {
			text += "; did you mean " + near + "?"
		}
		warnings = append(warnings, text)
	}
	for _, s := range laterSettings() {
		if _, inFile := l.file[flagName(s.env)]; inFile || l.env[s.env] != "" {
			warnings = append(warnings, s.env+" is set, but this version lacks its feature: it has no effect")
		}
	}
	return append(warnings, l.problems.warnings...)
}
