// Command webhook-dispatcher turns Open edX event-bus topics into webhooks.
//
// This package gives the command line (package cli) its process: arguments, environment, signals and the exit code.
package main

import (
	"context"
	"os"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/cli"
)

// version is set by the linker in a release build: -ldflags "-X main.version=1.2.3".
var version string

func main() {
	ctx, stop := untilSignal(context.Background(), os.Exit)
	code := cli.Run(ctx, os.Args[1:], &cli.Process{Environ: os.Environ(), Stdout: os.Stdout, Stderr: os.Stderr, Version: version})
	stop()
	os.Exit(code)
}
