//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestClocksThatJump sets the clock of the database, then the daemon's, an hour on and back, while rows are written, claimed and sent.
// A jump on makes rows due early, and leases run out; a jump back makes what is due wait as long as it was; no more. What needs no
// row, and rows that are new, go on as ever.
func TestClocksThatJump(t *testing.T) {
	t.Parallel()
	const hour = time.Hour
	dir := t.TempDir()
	database, own := clock(filepath.Join(dir, "database")), clock(filepath.Join(dir, "daemon"))
	database.set(t, 0)
	own.set(t, 0)
	mariadb := database.server(t, "mariadb")
	s := newSite(t, mariadb)
	rules := s.threeRules()
	s.lean = false // webhook-timestamp is looked at
	hold := make(chan struct{})
	s.on("second", func(n int, r *received) reply { // requests that go on while their leases run out
		if n == 1 && strings.HasSuffix(r.Event, "00") {
			return reply{status: 200, after: hold}
		}
		return reply{status: 200}
	})
	s.producer.create(registrations, 3)
	s.watchOffsets(registrations)
	d := s.serveClocked(own, "WEBHOOK_DISPATCHER_RETRY_SCHEDULE=3s,3s,3s,3s,3s,3s", "WEBHOOK_DISPATCHER_TIMEOUT=30s")
	idle := d.goroutines()
	generations := func() float64 {
		n, err := d.metric("webhook_dispatcher_bus_generations_total")
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	joined := generations()
	now := func() time.Time {
		t.Helper()
		var at time.Time
		if err := s.db.QueryRow("SELECT UTC_TIMESTAMP(3)").Scan(&at); err != nil {
			t.Fatal(err)
		}
		return at
	}
	events := s.producer.traffic(registrations, 3, 60, 1)
	eventually(t, 20*time.Second, "rows", func() error { return atLeast(s.rows("state = 2"), 20) })
	eventually(t, 20*time.Second, "leases", func() error { return atLeast(s.rows("state = 1"), 2) })

	// On: all that waits is due at once, and all leases have run out.
	database.set(t, hour)
	if ahead := time.Until(now()); ahead < hour-time.Minute {
		t.Fatalf("the database's clock is %s ahead", ahead)
	}
	time.AfterFunc(3*time.Second, func() { close(hold) })
	forward := s.recovers(registrations, events, recovery, d)

	// Back: rows that were given a time by the clock that was ahead wait for it; new ones do not.
	eventually(t, 20*time.Second, "rows that wait", func() error { return atLeast(s.rows("state = 0"), 5) })
	database.set(t, 0)
	late := s.rows("state < 2 AND due_at > DATE_ADD(UTC_TIMESTAMP(3), INTERVAL 30 MINUTE)")
	if n := s.rows("state < 2 AND due_at > DATE_ADD(UTC_TIMESTAMP(3), INTERVAL 62 MINUTE)"); late == 0 || n > 0 {
		t.Errorf("%d rows wait for the jump, %d for longer", late, n)
	}
	before := events.acknowledged()
	eventually(t, recovery, "rows after the jump back", func() error {
		taken, fresh := s.taken("failing"), 0
		for _, e := range events.acknowledged()[len(before):] {
			if everyFourthFails(1, &received{Event: e.ID}).status != 200 && taken[e.ID] > 0 {
				fresh++
			}
		}
		return atLeast(fresh, 40)
	})
	if err := s.settled(registrations, rules, events.acknowledged()); err != nil {
		t.Error(err)
	}
	database.set(t, hour)
	again := s.recovers(registrations, events, recovery, d)

	// The daemon's own: nothing hangs on it.
	var took [][2]time.Duration
	for _, jump := range []time.Duration{hour, -hour, 0} {
		own.set(t, jump)
		eventually(t, 10*time.Second, "the daemon's clock", func() error {
			list := s.stamps("first")
			if len(list) == 0 {
				return errors.New("no request")
			}
			if off := time.Until(list[len(list)-1]) - jump; off.Abs() > time.Minute {
				return fmt.Errorf("webhook-timestamp is off by %s", off)
			}
			return nil
		})
		took = append(took, s.recovers(registrations, events, recovery, d))
	}
	all := events.stop()
	s.allIsWell(registrations, all)
	if n := generations(); n != joined {
		t.Errorf("the group was joined %v times more", n-joined)
	}
	total, repeats := s.repeats(all)
	figure(t, "%d events × %d rules; the database's clock an hour on, back and on again: caught up after %s, %d rows waited for it, %s; "+
		"the daemon's on, back and right: %s; %d repeats of %d; goroutines %d idle, %d at the end; stopped in %s",
		len(all), len(hooks), forward, late, again, took, repeats, total, idle, d.calmsDown(idle), d.terminate())
}

// clock is a file that tells how many seconds a clock is off.
type clock string

func (c clock) set(t *testing.T, off time.Duration) {
	t.Helper()
	part := string(c) + ".part"
	if err := os.WriteFile(part, fmt.Appendf(nil, "%+d\n", int(off.Seconds())), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(part, string(c)); err != nil {
		t.Fatal(err)
	}
}

// server starts a server for one test whose wall clock follows c.
func (c clock) server(t *testing.T, kind string) *server {
	t.Helper()
	s := newServer(t, kind)
	s.faked = c.faketime(t)
	s.own(t)
	return s
}

// faketime returns the variables with which a program in C follows c.
func (c clock) faketime(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
	if err != nil || len(found) != 1 {
		t.Fatal("libfaketimeMT.so.1 is missing; it is in Debian's package faketime")
	}
	return []string{
		"LD_PRELOAD=" + found[0], "FAKETIME_TIMESTAMP_FILE=" + string(c), "FAKETIME_NO_CACHE=1",
		"DONT_FAKE_MONOTONIC=1", "FAKETIME_DONT_FAKE_MONOTONIC=1",
	}
}

// serveClocked is serve for a daemon whose wall clock follows c. A program in Go does not ask the C library for the time, so the
// daemon is built for it, with two changes to Go's package time.
func (s *site) serveClocked(c clock, settings ...string) *daemon {
	s.t.Helper()
	const now = "sec, nsec, mono := runtimeNow()\n"
	const before, after = now + "\tif mono == 0 {", now + "\tsec += off.Load()\n\tif mono == 0 {"
	const follow = `package time

import (
	"sync/atomic"
	"syscall"
)

// off is how many seconds Now is ahead.
var off atomic.Int64

func init() {
	name, _ := syscall.Getenv("CLOCK")
	if name == "" {
		return
	}
	go func() {
		for ; ; Sleep(10 * Millisecond) {
			file, err := open(name)
			if err != nil {
				continue
			}
			var text [16]byte
			n, _ := read(file, text[:])
			closefd(file)
			seconds, sign := int64(0), int64(1)
			for _, c := range text[:n] {
				switch {
				case c == '-':
					sign = -1
				case '0' <= c && c <= '9':
					seconds = 10*seconds + int64(c-'0')
				}
			}
			off.Store(sign * seconds)
		}
	}()
}
`
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		s.t.Fatal(withStderr(err))
	}
	std := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	source, err := os.ReadFile(filepath.Join(std, "time.go"))
	if err != nil {
		s.t.Fatal(err)
	}
	if n := strings.Count(string(source), before); n != 1 {
		s.t.Fatalf("Go's time.Now is not as expected: found %d times", n)
	}
	dir := s.t.TempDir()
	changed := map[string]string{}
	for name, text := range map[string]string{"time.go": strings.Replace(string(source), before, after, 1), "off.go": follow} {
		changed[filepath.Join(std, name)] = filepath.Join(dir, name)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": changed})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
		s.t.Fatal(err)
	}
	w := &workbench{root: s.w.root, binary: s.w.binary + "-clocked"}
	s.t.Cleanup(func() { _ = os.Remove(w.binary) })
	over := filepath.Join(dir, "overlay.json")
	if err := w.command("go", "build", "-overlay", over, "-o", w.binary, "./cmd/webhook-dispatcher"); err != nil {
		s.t.Fatal(err)
	}
	ordinary := s.w
	defer func() { s.w = ordinary }()
	s.w = w
	return s.serve(append(settings, "CLOCK="+string(c))...)
}

// stamps returns the webhook-timestamps of the requests of a hook.
func (s *site) stamps(hook string) (list []time.Time) {
	for _, request := range s.got(hook) {
		if n, err := strconv.ParseInt(request.Header.Get("webhook-timestamp"), 10, 64); err == nil {
			list = append(list, time.Unix(n, 0))
		}
	}
	return list
}
