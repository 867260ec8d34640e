// Command sandbox runs the whole system on one machine with only Go: an embedded broker, schema
// registry and database, a receiver, and the real daemon. It publishes messages captured from a
// real platform and prints a line for each request that the receiver gets.
//
// It listens on free ports of 127.0.0.1 and leaves nothing behind. It may print bodies, which the
// daemon never does, because its learners are fictitious.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/cli"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

type flags struct {
	Once     bool          `help:"Publish --events, wait until all is delivered, print a summary and exit: 0 if nothing was lost, else 1."`
	Events   int           `help:"Number of events that --once publishes." default:"30" placeholder:"N"`
	Every    time.Duration `help:"Time between two events without --once." default:"1s"`
	Deadline time.Duration `help:"Time limit of --once." default:"60s"`
	Bodies   bool          `help:"Show whole bodies."`
	Verbose  bool          `help:"Show the daemon's whole log, not only warnings."`
}

// Validate implements kong.Validatable.
func (f *flags) Validate() error {
	switch {
	case f.Events < 1:
		return fmt.Errorf("--events is %d: give at least 1", f.Events)
	case f.Every <= 0:
		return fmt.Errorf("--every is %s: give a time above 0, such as 1s", f.Every)
	case f.Deadline <= 0:
		return fmt.Errorf("--deadline is %s: give a time above 0, such as 60s", f.Deadline)
	}
	return nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run runs the sandbox until ctx ends or, with --once, all is done, and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var f flags
	helped := false
	parser := kong.Must(&f, kong.Name("sandbox"),
		kong.Description("Runs the daemon between an embedded broker, registry, database and receiver, until Ctrl-C."),
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { helped = true })) // only --help exits; the result of Parse is then ignored
	_, err := parser.Parse(args)
	switch {
	case helped:
		return cli.ExitGood
	case err != nil:
		fmt.Fprintf(stderr, "sandbox: %v; see --help\n", err)
		return cli.ExitUsage
	}
	if err := play(ctx, &f, stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "sandbox: %v\n", err)
		return cli.ExitFailed
	}
	return cli.ExitGood
}

// play starts everything, publishes, and stops everything.
func play(ctx context.Context, f *flags, stdout, stderr io.Writer) (err error) {
	began := time.Now()
	out := newTerminal(stdout, f.Bodies)
	s, err := start(ctx, out, newLogger(stderr, f.Verbose))
	if s != nil {
		defer func() { err = errors.Join(err, s.close()) }()
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil // stopped during the start
		}
		return err
	}
	out.banner(s, f.Once, time.Since(began))
	if !f.Once {
		err := s.publishForEver(ctx, f.Every)
		if stopped := s.stopDaemon(); err == nil {
			err = stopped
		}
		if err == nil {
			out.farewell(s.ledger)
		}
		return err
	}
	once, cancel := context.WithDeadline(ctx, began.Add(f.Deadline))
	defer cancel()
	if err := s.publish(once, f.Events); err != nil && once.Err() == nil {
		return err
	}
	if err := await(once, s, s.ledger.settled()); err != nil && once.Err() == nil {
		return err
	}
	if err := s.stopDaemon(); err != nil { // first, so that late repeats are counted
		return err
	}
	if ctx.Err() != nil {
		out.farewell(s.ledger)
		return nil
	}
	if !out.summary(s.ledger, time.Since(began)) {
		return errors.New("not everything was delivered exactly as expected; see the summary above")
	}
	return nil
}

// newLogger returns the daemon's logger: everything if verbose, else warnings.
func newLogger(out io.Writer, verbose bool) *slog.Logger {
	if verbose {
		return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.NewTextHandler(quiet{out}, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// quiet drops warnings that do not apply here: there is no plugin that could send the same rows,
// and the receiver prints each refused request itself. A handler writes each record at once.
type quiet struct{ io.Writer }

// Write implements io.Writer.
func (q quiet) Write(line []byte) (int, error) {
	refused := bytes.Contains(line, []byte("level=WARN")) && bytes.Contains(line, []byte("component=sender"))
	if refused || bytes.Contains(line, []byte(rule.DoubleSendWarning)) {
		return len(line), nil
	}
	return q.Writer.Write(line)
}
