// Command bench compares the daemon with a plain net/http client that sends the same body, at the
// same concurrency, to the same receiver: deliveries per second, CPU per delivery, peak memory, and
// the time from publish to POST.
//
// Broker, registry and database are embedded in this process; the daemon, the receiver and the
// plain client are separate processes, measured separately. All share the machine. It checks that
// everything arrived, but has no limits to pass or fail.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/cli"
)

type commands struct {
	Run      runCommand      `cmd:"" default:"withargs" help:"Run the scenarios and print a table."`
	Receiver receiverCommand `cmd:"" hidden:""`
	Client   clientCommand   `cmd:"" hidden:""`
	Daemon   daemonCommand   `cmd:"" hidden:""`
	Endpoint endpointCommand `cmd:"" hidden:""`
}

type runCommand struct {
	Scenarios []string      `arg:"" optional:"" help:"Scenarios to run, all by default; see --list."`
	List      bool          `help:"List the scenarios."`
	Binary    string        `help:"The daemon's binary. By default this program runs the same code in a separate process."`
	Scale     float64       `help:"Factor for the number of events of each scenario." default:"1"`
	Rounds    int           `help:"Number of runs of each scenario; the table shows the median." default:"1"`
	Profile   string        `help:"Directory for CPU and heap profiles of the daemon, per scenario; not with --binary."`
	Deadline  time.Duration `help:"Maximum time for one run of a scenario." default:"5m"`
}

// Validate implements kong.Validatable.
func (c *runCommand) Validate() error {
	switch {
	case c.Scale <= 0:
		return fmt.Errorf("--scale is %v: give a number above 0", c.Scale)
	case c.Rounds < 1:
		return fmt.Errorf("--rounds is %d: give at least 1", c.Rounds)
	case c.Profile != "" && c.Binary != "":
		return errors.New("--profile does not work with --binary: the daemon's binary writes no profiles")
	}
	_, err := c.chosen()
	return err
}

// chosen returns the scenarios to run, in the order of the list.
func (c *runCommand) chosen() ([]scenario, error) {
	if len(c.Scenarios) == 0 {
		return scenarios, nil
	}
	var found []scenario
	for _, name := range c.Scenarios {
		i := slices.IndexFunc(scenarios, func(s scenario) bool { return s.name == name })
		if i < 0 {
			return nil, fmt.Errorf("unknown scenario %q: --list shows them", name)
		}
		found = append(found, scenarios[i])
	}
	return found, nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var c commands
	helped := false
	parser := kong.Must(&c, kong.Name("bench"),
		kong.Description("Compares the daemon with a plain HTTP client, on this machine."),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.BindTo(stdout, (*io.Writer)(nil)),
		kong.Writers(stdout, stderr), kong.Exit(func(int) { helped = true }))
	parsed, err := parser.Parse(args)
	switch {
	case helped:
		return cli.ExitGood
	case err != nil:
		fmt.Fprintf(stderr, "bench: %v; see --help\n", err)
		return cli.ExitUsage
	}
	if err := parsed.Run(); err != nil {
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return cli.ExitFailed
	}
	return cli.ExitGood
}

// Run implements the command.
func (c *runCommand) Run(ctx context.Context, out io.Writer) error {
	if c.List {
		for _, s := range scenarios {
			fmt.Fprintf(out, "%-12s %s\n", s.name, s.about)
		}
		return nil
	}
	chosen, err := c.chosen()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s\n\n%s\n", machine(), strings.TrimRight(tableHead, "\n"))
	for _, s := range chosen {
		s.events = max(int(float64(s.events)*c.Scale), min(s.events, 1000))
		var all []figures
		for range c.Rounds {
			one, cancel := context.WithTimeout(ctx, c.Deadline)
			f, err := c.measure(one, s)
			cancel()
			if err != nil {
				return fmt.Errorf("scenario %s: %w", s.name, err)
			}
			all = append(all, f)
		}
		fmt.Fprintln(out, median(all).row(s))
	}
	return nil
}
