// Package cli is the command line: the grammar of the commands, and what each prints. It turns
// settings into dependencies of the packages that do the work, mostly of package admin, and errors
// into exit codes: 0 good, 1 failed, 2 wrong usage or settings.
//
// It does not touch signals or the process: main gives it a context, an environment and somewhere
// to write.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/suggest"
)

// The exit codes, which scripts rely on.
const (
	ExitGood   = 0
	ExitFailed = 1
	ExitUsage  = 2 // wrong usage or settings
)

// Process is the environment that a command runs in.
type Process struct {
	// Environ is the environment, as os.Environ returns it.
	Environ []string
	// Stdin is read for a flag with the value "-". It may be nil.
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	// Version is the release, empty for a build from source.
	Version string
	// Serve runs the daemon until ctx ends. Nil stands for the daemon itself; tests set their own.
	Serve func(ctx context.Context, cfg *config.Config, log *slog.Logger) error
}

// grammar is the command line. Settings are in the commands that use them.
type grammar struct {
	config.File
	config.Log

	Serve   serveCommand   `cmd:"" help:"Run the daemon: consume the topics and deliver webhooks."`
	Migrate migrateCommand `cmd:"" help:"Bring the database's tables to this version. Can be repeated."`
	Rules   struct {
		List    listCommand    `cmd:"" help:"List all rules with what is wrong with them."`
		Show    showCommand    `cmd:"" help:"Show one rule."`
		Add     addCommand     `cmd:"" help:"Add a rule and print its id."`
		Set     setCommand     `cmd:"" help:"Change a rule: its options and secrets, on or off, the end of its pause."`
		Adopt   adoptCommand   `cmd:"" help:"Hand rules to the dispatcher: the plugin inside the LMS leaves them alone."`
		Release releaseCommand `cmd:"" help:"Give adopted rules back to the plugin inside the LMS."`
		Test    testCommand    `cmd:"" help:"Show the request that a rule makes of an event, and send it if asked to."`
		Presets presetsCommand `cmd:"" help:"List the presets: options made for known receivers."`
	} `cmd:"" help:"List, show, add, change, adopt, release and test rules."`
	Deliveries struct {
		List   deliveriesListCommand   `cmd:"" help:"List deliveries, those that changed last first."`
		Show   deliveriesShowCommand   `cmd:"" help:"Show one delivery and its attempts."`
		Replay deliveriesReplayCommand `cmd:"" help:"Send deliveries again. Says how many; --yes does it."`
	} `cmd:"" help:"List and show deliveries that did not end at their first try, and replay deliveries."`
	Undecodable struct {
		List   undecodableListCommand   `cmd:"" help:"List records, the newest first."`
		Show   undecodableShowCommand   `cmd:"" help:"Show one record with its headers."`
		Replay undecodableReplayCommand `cmd:"" help:"Make the deliveries of records that can be read now. Says how many; --yes does it."`
	} `cmd:"" help:"List, show and replay records of the bus that could not be read."`
	Secrets struct {
		Rotate rotateCommand `cmd:"" help:"Seal all secrets of rules with the first key, so that the others can be removed."`
	} `cmd:"" help:"Rotate the keys that seal the secrets of rules."`
	Events struct {
		List eventsListCommand `cmd:"" help:"List what --event of rules add takes: the platform's signals, and the plugin's filters."`
		Show eventsShowCommand `cmd:"" help:"Print a sample of an event as JSON, as a plain rule sends it."`
	} `cmd:"" help:"List the events and filters that rules can be for, and show samples of events."`
	Version versionCommand `cmd:"" help:"Print the version."`
}

// usageError ends a command with exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// session is what a command runs with after its settings have been read.
type session struct {
	*Process
	log    *slog.Logger
	loader *config.Loader
	level  *config.Log
}

// Run parses args, runs the command and returns the exit code.
func Run(ctx context.Context, args []string, p *Process) int {
	var cli grammar
	loader := config.NewLoader(p.Environ)
	helped := false
	parser, err := kong.New(&cli, append(loader.Options(),
		kong.Name("webhook-dispatcher"),
		kong.Description("Turns Open edX event-bus topics into webhooks. Each setting is a flag, an environment variable "+
			"or a key of the YAML file, in that order of precedence."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.Writers(p.Stdout, p.Stderr),
		kong.Exit(func(int) { helped = true }), // only --help exits; the parse goes on and its result is dropped
		kong.TypeMapper(reflect.TypeFor[*string](), kong.MapperFunc(decodeText)),
		kong.BindTo(ctx, (*context.Context)(nil)),
	)...)
	if err != nil {
		return p.report(fmt.Errorf("build the command line: %w", err))
	}
	parsed, err := parser.Parse(args)
	if helped {
		return ExitGood
	}
	if err != nil {
		path, below := commandOf(err)
		fmt.Fprintf(p.Stderr, "webhook-dispatcher: %s; see %s --help\n", faultOf(err, below), path)
		return ExitUsage
	}
	return p.report(parsed.Run(&session{Process: p, loader: loader, level: &cli.Log}))
}

// commandOf returns the command at which parsing failed, such as "webhook-dispatcher rules add",
// and the names of its subcommands.
func commandOf(err error) (path string, below []string) {
	path = "webhook-dispatcher"
	parse, ok := errors.AsType[*kong.ParseError](err)
	if !ok || parse.Context == nil {
		return path, nil
	}
	node := parse.Context.Model.Node
	for _, step := range parse.Context.Path {
		if step.Command != nil {
			node = step.Command
			path += " " + node.Name
		}
	}
	for _, child := range node.Children {
		below = append(below, child.Name)
	}
	return path, below
}

// maxWord is how many characters of an unknown word an error quotes.
const maxWord = 40

// faultOf says what is wrong with a command line. below are the commands of which one was expected.
// It does not quote an unexpected argument, which is often the end of a secret or of a header whose
// quotes are missing.
func faultOf(err error, below []string) string {
	text := err.Error()
	word, unexpected := strings.CutPrefix(text, "unexpected argument ")
	switch {
	case unexpected && len(below) > 0:
		word, _, _ = strings.Cut(word, ", did you mean ") // the parser's own suggestion
		return fmt.Sprintf("unknown command %q: expected one of %s%s",
			suggest.Clip(word, maxWord), strings.Join(below, ", "), suggest.DidYouMean(word, below))
	case unexpected:
		return "unexpected argument: quote values that contain spaces"
	case len(below) > 0 && strings.HasPrefix(text, "expected "):
		return "a command is missing: expected one of " + strings.Join(below, ", ")
	}
	return text
}

// readable writes durations as 10s, where JSON would have a number without a unit.
func readable(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// settings checks the groups that a command uses, sets up the logger and logs warnings.
func (s *session) settings(ctx context.Context, groups ...config.Group) error {
	if err := s.loader.Finish(append([]config.Group{s.level}, groups...)...); err != nil {
		return err
	}
	level, err := s.level.Level()
	if err != nil {
		return usageError{err}
	}
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: readable}
	s.log = slog.New(slog.NewJSONHandler(s.Stderr, options))
	if s.level.LogFormat == "text" {
		s.log = slog.New(slog.NewTextHandler(s.Stderr, options))
	}
	for _, warning := range s.loader.Warnings() {
		s.log.WarnContext(ctx, warning) //nolint:sloglint // whole sentences about settings, made by config
	}
	return nil
}

// report prints an error and returns its exit code.
func (p *Process) report(err error) int {
	if err == nil {
		return ExitGood
	}
	fmt.Fprintf(p.Stderr, "webhook-dispatcher: %s\n", explain(err))
	_, usage := errors.AsType[usageError](err)
	_, settings := errors.AsType[*config.Error](err)
	if usage || settings || len(admin.Problems(err)) > 0 {
		return ExitUsage
	}
	return ExitFailed
}
