package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/cli"
)

// daemonCommand runs the daemon in this program, with profiles.
type daemonCommand struct {
	Profile string // directory, "" for none
}

// Run implements the command.
func (c *daemonCommand) Run(ctx context.Context) (err error) {
	if c.Profile != "" {
		stop, err := profile(c.Profile)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	code := cli.Run(ctx, []string{"serve"}, &cli.Process{Environ: os.Environ(), Stdout: os.Stdout, Stderr: os.Stderr, Version: "bench"})
	if code != cli.ExitGood {
		return fmt.Errorf("serve: exit code %d", code)
	}
	return nil
}

// profile starts a CPU profile. stop ends it and also writes a heap profile.
func profile(dir string) (stop func() error, err error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	cpu, err := os.Create(filepath.Clean(filepath.Join(dir, "cpu.pprof")))
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return nil, errors.Join(err, cpu.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		heap, err := os.Create(filepath.Clean(filepath.Join(dir, "heap.pprof")))
		if err != nil {
			return errors.Join(err, cpu.Close())
		}
		runtime.GC()
		return errors.Join(pprof.WriteHeapProfile(heap), heap.Close(), cpu.Close())
	}, nil
}
