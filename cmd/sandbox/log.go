package main

import (
	"context"
	"io"
	"log/slog"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// newLogger returns the daemon's logger: warnings, or everything where verbose is set.
func newLogger(out io.Writer, verbose bool) *slog.Logger {
	if verbose {
		return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(&quiet{Handler: slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelWarn})})
}

// quiet leaves out what would alarm for nothing: there is no plugin here that could send the same rows, and each refused
// request is a line of the receiver already.
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
