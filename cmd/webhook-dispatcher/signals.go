package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/cli"
)

// errSignalled is the cause of a context that a signal ended.
var errSignalled = errors.New("stopped by a signal")

// untilSignal returns a context that the first SIGTERM or SIGINT cancels, for an orderly stop. The
// second exits at once. stop releases the signals and the goroutine.
func untilSignal(parent context.Context, exit func(code int)) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	done := make(chan struct{})
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	var group sync.WaitGroup
	group.Go(func() {
		for _, act := range [...]func(){
			func() { cancel(errSignalled) },
			func() { exit(cli.ExitFailed) },
		} {
			select {
			case <-signals:
				act()
			case <-done:
				return
			}
		}
	})
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		group.Wait()
		cancel(nil)
	}
}
