package main

import (
	"bytes"
	"io"
	"log/slog"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

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
