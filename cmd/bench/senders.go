package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/cli"
)

// clientCommand is the plain client: the daemon's concurrency for an endpoint, in goroutines that
// send one request after the other with net/http. It prints how long that took.
type clientCommand struct {
	URL      string // of the receiver
	Requests int
}

// Run implements the command.
func (c *clientCommand) Run(ctx context.Context, out io.Writer) error {
	body, err := get(ctx, c.URL+bodyPath)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: concurrency}}
	var (
		left    atomic.Int64
		failure atomic.Pointer[error]
		senders sync.WaitGroup
	)
	left.Store(int64(c.Requests))
	began := time.Now()
	for range concurrency {
		senders.Go(func() {
			for left.Add(-1) >= 0 && failure.Load() == nil {
				if err := post(ctx, client, c.URL+hookPath, body); err != nil {
					failure.Store(&err)
				}
			}
		})
	}
	senders.Wait()
	if err := failure.Load(); err != nil {
		return *err
	}
	fmt.Fprintln(out, time.Since(began))
	return nil
}

func post(ctx context.Context, client *http.Client, url string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if err := drain(client.Do(req)); err != nil {
		return fmt.Errorf("the receiver: %w", err)
	}
	return nil
}

// drain reads an answer to its end, so that the connection is reused. A status other than 200 is an
// error.
func drain(resp *http.Response, err error) error {
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end below
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", resp.Status)
	}
	return nil
}

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
