package main

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/cli"
)

// awaitFile waits until a background process has made a file.
func awaitFile(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		select {
		case <-deadline:
			ts.Fatalf("%s was not made in time", args[0])
		case <-tick.C:
		}
	}
}

// sendSignal sends TERM or INT to the background process; the kill of testscript itself knows no
// TERM.
func sendSignal(ts *testscript.TestScript, _ bool, args []string) {
	signals := map[string]os.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT}
	processes := ts.BackgroundCmds()
	if len(args) != 1 || signals[args[0]] == nil || len(processes) != 1 {
		ts.Fatalf("usage: signal TERM|INT, with one process in the background")
	}
	ts.Check(processes[0].Process.Signal(signals[args[0]]))
}

// Not parallel: the signals go to the whole test process.
func TestFirstSignalStopsSecondExits(t *testing.T) {
	exited := make(chan int, 1)
	ctx, stop := untilSignal(t.Context(), func(code int) { exited <- code })
	defer stop()
	kill := func() {
		t.Helper()
		if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	kill()
	<-ctx.Done()
	if !errors.Is(context.Cause(ctx), errSignalled) {
		t.Errorf("cause %v", context.Cause(ctx))
	}
	if len(exited) != 0 {
		t.Error("the first signal exits")
	}
	kill()
	if code := <-exited; code != cli.ExitFailed {
		t.Errorf("the second signal exits with %d", code)
	}
}
