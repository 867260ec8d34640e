//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// django returns a command of the stand-in for the LMS, on a database of the shared MariaDB, or database@port of another one.
func (w *workbench) django(database string, args ...string) *exec.Cmd {
	name, port, own := strings.Cut(database, "@")
	if !own {
		port = strconv.Itoa(w.mariadb.port)
	}
	dir := filepath.Join(w.root, "test/e2e/python")
	cmd := exec.Command(w.python, append([]string{filepath.Join(dir, "manage.py")}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LMS_MYSQL_PORT="+port, "LMS_MYSQL_DATABASE="+name, "PYTHONDONTWRITEBYTECODE=1")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a publisher must not outlive its test
	return cmd
}

// lms returns a command of the stand-in on this site.
func (s *site) lms(args ...string) *exec.Cmd {
	cmd := s.w.django(fmt.Sprintf("%s@%d", s.database, s.mariadb.port), args...)
	cmd.Env = append(cmd.Env, "EVENT_BUS_TOPIC_PREFIX="+s.prefix, "EVENT_BUS_KAFKA_BOOTSTRAP_SERVERS="+s.kafka.address(),
		"EVENT_BUS_KAFKA_SCHEMA_REGISTRY_URL="+s.registry)
	return cmd
}

// published is what the real publisher tells about an event: the broker has acknowledged it.
type published struct {
	Number    int       `json:"number"`
	ID        string    `json:"id"`
	Type      string    `json:"type"`
	Time      time.Time `json:"time"`
	Label     string    `json:"label"`
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	Error     string    `json:"error"`
	JSON      string    `json:"json"` // with --bodies: what the plugin would send
	Form      string    `json:"form"`
}

// publisher is a running real publisher.
type publisher struct {
	t      *testing.T
	cmd    *exec.Cmd
	events chan published // closed when the publisher has ended
}

// publish starts the real publisher.
func (s *site) publish(args ...string) *publisher {
	s.t.Helper()
	cmd := s.lms(append([]string{"publish"}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	p := &publisher{t: s.t, cmd: cmd, events: make(chan published, 1<<17)}
	ended := make(chan struct{})
	var killed atomic.Bool
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 8<<20)
		for lines.Scan() {
			var e published
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				s.t.Errorf("the publisher printed %q: %v", lines.Text(), err)
			} else if e.ID != "" {
				p.events <- e
			}
		}
		if err := cmd.Wait(); err != nil && !killed.Load() {
			s.t.Errorf("the publisher: %v\n%s", err, lastLines(stderr.String(), 20))
		}
		close(p.events)
	}()
	s.t.Cleanup(func() {
		killed.Store(true)
		_ = cmd.Process.Kill() // an error means that it has ended
		<-ended
	})
	return p
}

// stop ends the publisher once all that it has sent is acknowledged, and returns all events that it has published.
func (p *publisher) stop() []published {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	return p.all()
}

// all waits for the publisher's end and returns all events that it has published.
func (p *publisher) all() []published {
	p.t.Helper()
	var list []published
	for e := range p.events {
		if e.Error != "" {
			p.t.Fatalf("event %d, %s, was not published: %s", e.Number, e.Type, e.Error)
		}
		list = append(list, e)
	}
	return list
}

// orm is a running Django that changes rules through its models, as its admin pages do.
type orm struct {
	t       *testing.T
	input   io.Writer
	answers *bufio.Scanner
}

func (s *site) orm() *orm {
	s.t.Helper()
	cmd := s.lms("rules")
	input, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = input.Close()
		_ = cmd.Wait()
	})
	return &orm{t: s.t, input: input, answers: bufio.NewScanner(output)}
}

// do carries out one operation and returns the row's id.
func (o *orm) do(operation map[string]any) int {
	o.t.Helper()
	line, err := json.Marshal(operation)
	if err != nil {
		o.t.Fatal(err)
	}
	if _, err := o.input.Write(append(line, '\n')); err != nil {
		o.t.Fatal(err)
	}
	if !o.answers.Scan() {
		o.t.Fatalf("Django gave no answer to %s", line)
	}
	var answer struct {
		ID    int
		Error string
	}
	if err := json.Unmarshal(o.answers.Bytes(), &answer); err != nil || answer.Error != "" {
		o.t.Fatalf("Django answered %s with %s", line, o.answers.Text())
	}
	return answer.ID
}

func (o *orm) add(fields map[string]any) int {
	o.t.Helper()
	return o.do(map[string]any{"op": "add", "fields": fields})
}

func (o *orm) edit(id int, fields map[string]any) {
	o.t.Helper()
	o.do(map[string]any{"op": "edit", "id": id, "fields": fields})
}

func (o *orm) remove(id int) {
	o.t.Helper()
	o.do(map[string]any{"op": "delete", "id": id})
}
