package main

import (
	"context"
	"io"
	"log/slog"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// newLogger returns the daemon's logger: everything if verbose, else warnings.
func newLogger(out io.Writer, verbose bool) *slog.Logger {
	if verbose {
		return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(&quiet{Handler: slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelWarn})})
}

// quiet drops warnings that do not apply here: there is no plugin that could send the same rows,
// and the receiver prints each refused request itself.
type quiet struct {
	slog.Handler
	muted bool
}

// WithAttrs implements slog.Handler.
func (q *quiet) WithAttrs(attrs []slog.Attr) slog.Handler {
	muted := q.muted
	for _, a := range attrs {
		muted = muted || a.Key == "component" && a.Value.String() == "sender"
	}
	return &quiet{Handler: q.Handler.WithAttrs(attrs), muted: muted}
}

// WithGroup implements slog.Handler.
func (q *quiet) WithGroup(name string) slog.Handler {
	return &quiet{Handler: q.Handler.WithGroup(name), muted: q.muted}
}

// Handle implements slog.Handler.
func (q *quiet) Handle(ctx context.Context, r slog.Record) error {
	if q.muted && r.Level < slog.LevelError || r.Message == rule.DoubleSendWarning {
		return nil
	}
	return q.Handler.Handle(ctx, r)
}
