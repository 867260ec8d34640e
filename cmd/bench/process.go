package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a program that was started and is measured from outside.
type process struct {
	cmd    *exec.Cmd
	health string // URL that answers 200 once it is ready, "" for none
	stderr *tail
	ended  chan struct{} // closed when it has ended
	err    error         // how; read after ended
	stop   func() error
}

// start starts a program. What it prints is kept for the case that it fails.
func start(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, stderr: &tail{}, ended: make(chan struct{})}
	cmd.Stderr = p.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // nothing is left behind, whatever ends this process
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
	}()
	p.stop = sync.OnceValue(func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM) // fails only when it has ended
		select {
		case <-p.ended:
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			<-p.ended
		}
		return p.failureUnlessGood()
	})
	return p, nil
}

func (p *process) failureUnlessGood() error {
	if p.err == nil {
		return nil
	}
	return p.failure()
}

// failure tells how a process ended that should not have.
func (p *process) failure() error {
	if p.err == nil {
		return errors.New("the process has ended by itself")
	}
	return fmt.Errorf("the process has ended: %w; the end of its log: %s", p.err, p.stderr.text())
}

// self returns a command that runs this program.
func self(ctx context.Context, args ...string) (*exec.Cmd, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return exec.CommandContext(ctx, path, args...), nil
}

// runSelf runs this program to its end and returns what it prints.
func runSelf(ctx context.Context, args ...string) ([]byte, error) {
	cmd, err := self(ctx, args...)
	if err != nil {
		return nil, err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd.Output()
}

// startDaemon starts the daemon with its defaults, but for what the machine dictates.
func (c *runCommand) startDaemon(ctx context.Context, b *bed, s scenario) (*process, error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	cmd := exec.CommandContext(context.WithoutCancel(ctx), c.Binary, "serve")
	if c.Binary == "" {
		profile := c.Profile
		if profile != "" {
			profile = filepath.Join(profile, s.name)
		}
		if cmd, err = self(context.WithoutCancel(ctx), "daemon", "--profile", profile); err != nil {
			return nil, err
		}
	}
	prefix, topic, _ := strings.Cut(b.message.Topic, "-")
	cmd.Env = append(os.Environ(),
		"EVENT_BUS_KAFKA_BOOTSTRAP_SERVERS="+strings.Join(b.broker.Addrs(), ","),
		"EVENT_BUS_KAFKA_SCHEMA_REGISTRY_URL="+b.registry.URL(),
		"EVENT_BUS_TOPIC_PREFIX="+prefix,
		"WEBHOOK_DISPATCHER_TOPICS="+topic,
		"WEBHOOK_DISPATCHER_START_OFFSET=earliest",
		"WEBHOOK_DISPATCHER_MYSQL_DSN="+b.database.DSN(),
		"WEBHOOK_DISPATCHER_LISTEN="+address,
		"WEBHOOK_DISPATCHER_EGRESS_ALLOW=127.0.0.0/8",
		"WEBHOOK_DISPATCHER_SIGNING_SCHEME=standard",
		"WEBHOOK_DISPATCHER_SIGNING_SECRET=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
		"WEBHOOK_DISPATCHER_LOG_LEVEL=warn",
	)
	p, err := start(cmd)
	if err != nil {
		return nil, err
	}
	p.health = "http://" + address + "/readyz"
	return p, nil
}

func freePort(ctx context.Context) (int, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close() //nolint:errcheck // nobody has connected
	return l.Addr().(*net.TCPAddr).Port, nil
}

// local returns a client for what listens on this machine.
func local() *http.Client { return &http.Client{Timeout: 5 * time.Second} }

func (p *process) waitReady(ctx context.Context) error {
	client := local()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.health, http.NoBody)
		if err != nil {
			return err
		}
		if resp, err := client.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-p.ended:
			return p.failure()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
