// Command sandbox shows the whole system on one machine with nothing but Go: an embedded broker, schema registry and database,
// a receiver, and the real daemon between them. Captured messages of a real platform are published, and each request that
// reaches the receiver is a line on the terminal.
//
// It listens on 127.0.0.1 only, on free ports, and leaves nothing behind. Its learners are fictitious, which is why it may show
// bodies; the daemon itself never does.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

// The exit codes, which scripts rely on.
const (
	exitGood   = 0
	exitFailed = 1
	exitUsage  = 2
)

type flags struct {
	Once     bool          `help:"Publish --events, wait until all is delivered, print a summary and exit: 0 if nothing was lost, else 1."`
	Events   int           `help:"How many events --once publishes." default:"30" placeholder:"N"`
	Every    time.Duration `help:"Time between two events without --once." default:"1s"`
	Deadline time.Duration `help:"Longest time that --once may take." default:"60s"`
	Bodies   bool          `help:"Show each body whole."`
	Verbose  bool          `help:"Show the daemon's log, not only its warnings."`
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
	parser, err := kong.New(&f, kong.Name("sandbox"),
		kong.Description("Runs the daemon between an embedded broker, registry, database and receiver, until Ctrl-C."),
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { helped = true })) // only --help exits; the parse goes on and its result is dropped
	if err != nil {
		fmt.Fprintf(stderr, "sandbox: build the command line: %v\n", err)
		return exitFailed
	}
	_, err = parser.Parse(args)
	switch {
	case helped:
		return exitGood
	case err != nil:
		fmt.Fprintf(stderr, "sandbox: %v; see --help\n", err)
		return exitUsage
	}
	if err := play(ctx, &f, stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "sandbox: %v\n", err)
		return exitFailed
	}
	return exitGood
}

// errIncomplete has been explained by the summary already.
var errIncomplete = errors.New("not everything was delivered exactly as expected; see the summary above")

// play builds everything up, publishes, and takes everything down again.
func play(ctx context.Context, f *flags, stdout, stderr io.Writer) (err error) {
	began := time.Now()
	out := newTerminal(stdout, f.Bodies)
	s, err := start(ctx, out, newLogger(stderr, f.Verbose))
	if s != nil {
		defer func() { err = errors.Join(err, s.close()) }()
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil // stopped before it had begun
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
	if err := s.waitDelivered(once); err != nil && once.Err() == nil {
		return err
	}
	if err := s.stopDaemon(); err != nil { // before the count: what comes late is a repeat that must be seen
		return err
	}
	if ctx.Err() != nil {
		out.farewell(s.ledger)
		return nil
	}
	if !out.summary(s.ledger, time.Since(began)) {
		return errIncomplete
	}
	return nil
}
