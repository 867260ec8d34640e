//go:build e2e

package harness

import (
	"bufio"
	"encoding/json"
	"fmt"
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

// django returns a command of test/e2e/python, which stands in for the LMS, on a database of the
// shared MariaDB, or on database@port.
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

// lms returns a command of test/e2e/python on this site.
func (s *Site) lms(args ...string) *exec.Cmd {
	cmd := s.w.django(fmt.Sprintf("%s@%d", s.Database, s.MariaDB.port), args...)
	cmd.Env = append(cmd.Env, "EVENT_BUS_TOPIC_PREFIX="+s.Prefix, "EVENT_BUS_KAFKA_BOOTSTRAP_SERVERS="+s.Kafka.Address(),
		"EVENT_BUS_KAFKA_SCHEMA_REGISTRY_URL="+s.Registry)
	return cmd
}

// Published is an event that the broker has acknowledged.
type Published struct {
	Number    int       `json:"number"`
	ID        string    `json:"id"`
	Type      string    `json:"type"`
	Time      time.Time `json:"time"`
	Label     string    `json:"label"`
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	Error     string    `json:"error"`
	JSON      string    `json:"json"` // with --bodies: what the plugin would send; so is Form
	Form      string    `json:"form"`
}

// Publisher is a running Python process that publishes with the platform's own code.
type Publisher struct {
	t      *testing.T
	cmd    *exec.Cmd
	events chan Published // closed when the publisher has ended
}

// Publish starts a Publisher with flags of `manage.py publish`. It ends with the test at the
// latest.
func (s *Site) Publish(args ...string) *Publisher {
	s.T.Helper()
	cmd := s.lms(append([]string{"publish"}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.T.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.T.Fatal(err)
	}
	p := &Publisher{t: s.T, cmd: cmd, events: make(chan Published, 1<<17)}
	ended := make(chan struct{})
	var killed atomic.Bool
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 8<<20)
		for lines.Scan() {
			var e Published
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				s.T.Errorf("the publisher printed %q: %v", lines.Text(), err)
			} else if e.ID != "" {
				p.events <- e
			}
		}
		if err := cmd.Wait(); err != nil && !killed.Load() {
			s.T.Errorf("the publisher: %v\n%s", err, LastLines(stderr.String(), 20))
		}
		close(p.events)
	}()
	s.T.Cleanup(func() {
		killed.Store(true)
		_ = cmd.Process.Kill() // fails if it has ended
		<-ended
	})
	return p
}

// Stop ends the publisher once everything it has sent is acknowledged, and returns all events.
func (p *Publisher) Stop() []Published {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	return p.All()
}

// All waits until the publisher ends and returns all events.
func (p *Publisher) All() []Published {
	p.t.Helper()
	var list []Published
	for e := range p.events {
		if e.Error != "" {
			p.t.Fatalf("event %d, %s, was not published: %s", e.Number, e.Type, e.Error)
		}
		list = append(list, e)
	}
	return list
}

// ORM is a running Django that changes rules through the plugin's models, as the admin pages do.
type ORM struct {
	t      *testing.T
	django *Dialogue
}

// ORM starts a Django on the site's database; it ends with the test.
func (s *Site) ORM() *ORM {
	s.T.Helper()
	return &ORM{t: s.T, django: StartDialogue(s.T, s.lms("rules"))}
}

// do runs one operation and returns the row's id.
func (o *ORM) do(operation map[string]any) int {
	o.t.Helper()
	line, err := json.Marshal(operation)
	if err != nil {
		o.t.Fatal(err)
	}
	text, err := o.django.Ask(string(line))
	if err != nil {
		o.t.Fatalf("ask Django for %s: %v", line, err)
	}
	var answer struct {
		ID    int
		Error string
	}
	if err := json.Unmarshal(text, &answer); err != nil || answer.Error != "" {
		o.t.Fatalf("Django answered %s with %s", line, text)
	}
	return answer.ID
}

// Add creates a row and returns its id.
func (o *ORM) Add(fields map[string]any) int {
	o.t.Helper()
	return o.do(map[string]any{"op": "add", "fields": fields})
}

// Edit saves a row with other values in some fields.
func (o *ORM) Edit(id int, fields map[string]any) {
	o.t.Helper()
	o.do(map[string]any{"op": "edit", "id": id, "fields": fields})
}

// Remove deletes a row.
func (o *ORM) Remove(id int) {
	o.t.Helper()
	o.do(map[string]any{"op": "delete", "id": id})
}
