// Command webhook-dispatcher turns Open edX event-bus topics into webhooks.
//
// This package gives the command line (package cli) its process: arguments, environment, signals and the exit code.
package main

import (
	"context"
	"io"
	"log"
	"os"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/cli"
)

// version is set by the linker in a release build: -ldflags "-X main.version=1.2.3".
var version string

func main() {
	// net/http writes there what endpoints send unasked for; it belongs into no log. The daemon's own log is a slog.Logger.
	log.SetOutput(io.Discard)
	ctx, stop := untilSignal(context.Background(), os.Exit)
	code := cli.Run(ctx, os.Args[1:], &cli.Process{
		Environ: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Version: version,
	})
	stop()
	os.Exit(code)
}
