// Command webhook-dispatcher turns Open edX event-bus topics into webhooks.
//
// It connects package cli to the process: arguments, environment, signals and exit code.
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
	// net/http logs unsolicited responses of endpoints here. The daemon uses a slog.Logger.
	log.SetOutput(io.Discard)
	ctx, stop := untilSignal(context.Background(), os.Exit)
	code := cli.Run(ctx, os.Args[1:], &cli.Process{
		Environ: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Version: version,
	})
	stop()
	os.Exit(code)
}
