package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a running program.
type process struct {
	cmd    *exec.Cmd
	health string        // URL that answers 200 once it is ready, "" for none
	ended  chan struct{} // closed when it has ended
	stderr bytes.Buffer  // read after ended
	err    error         // of its end; read after ended
	stop   func() error
}

// start starts a program. It keeps stderr for the error if the program fails.
func start(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, ended: make(chan struct{})}
	cmd.Stderr = &p.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it ends with this process
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
		if p.err == nil {
			return nil
		}
		return p.failure()
	})
	return p, nil
}

// failure describes the unexpected end of a process.
func (p *process) failure() error {
	if p.err == nil {
		return errors.New("the process ended unexpectedly")
	}
	log := p.stderr.Bytes()
	return fmt.Errorf("the process ended: %w; the end of its log: %s", p.err, bytes.TrimSpace(log[max(0, len(log)-4096):]))
}

// self returns a command that runs this program.
func self(ctx context.Context, args ...string) (*exec.Cmd, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return exec.CommandContext(ctx, path, args...), nil
}

// startDaemon starts the daemon with the default settings where possible.
func (c *runCommand) startDaemon(ctx context.Context, b *bed, s scenario) (*process, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
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
		"WEBHOOK_DISPATCHER_SIGNING_SECRET="+signingSecret,
		"WEBHOOK_DISPATCHER_LOG_LEVEL=warn",
	)
	p, err := start(cmd)
	if err != nil {
		return nil, err
	}
	p.health = "http://" + address + "/readyz"
	return p, nil
}

func freeAddress(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// get returns what a server on this machine answers with status 200.
func get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Timeout: 5 * time.Second}).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end below
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answered %s", url, resp.Status)
	}
	return body, err
}

// stats reads a server's statistics.
func stats(ctx context.Context, url string, into any) error {
	text, err := get(ctx, url+statsPath)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

func (p *process) waitReady(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := get(ctx, p.health); err == nil {
			return nil
		}
		if err := p.wait(ctx, tick.C); err != nil {
			return err
		}
	}
}

// wait waits for a tick. It is an error if the process ends first.
func (p *process) wait(ctx context.Context, tick <-chan time.Time) error {
	select {
	case <-tick:
		return nil
	case <-p.ended:
		return p.failure()
	case <-ctx.Done():
		return ctx.Err()
	}
}
