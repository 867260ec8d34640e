//go:build e2e

package harness

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Clock is the path of a file that says by how many seconds a wall clock is off.
type Clock string

// Set puts the clock off the real time, back if negative. Programs see either the old or the new value.
func (c Clock) Set(t *testing.T, off time.Duration) {
	t.Helper()
	part := string(c) + ".part"
	if err := os.WriteFile(part, fmt.Appendf(nil, "%+d\n", int(off.Seconds())), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(part, string(c)); err != nil {
		t.Fatal(err)
	}
}

// Server starts a server whose wall clock follows c, for one test.
func (c Clock) Server(t *testing.T, kind string) *Server {
	t.Helper()
	s := newServer(t, kind)
	s.faked = c.faketime(t)
	s.own(t)
	return s
}

// faketime returns the environment that makes a C program follow c.
func (c Clock) faketime(t *testing.T) []string {
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

// ServeClocked is Serve for a daemon whose wall clock follows c. Go does not ask the C library for
// the time, so this builds the daemon with two changes to Go's package time.
func (s *Site) ServeClocked(c Clock, settings ...string) *Daemon {
	s.T.Helper()
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
		s.T.Fatal(withStderr(err))
	}
	std := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	source, err := os.ReadFile(filepath.Join(std, "time.go"))
	if err != nil {
		s.T.Fatal(err)
	}
	if n := strings.Count(string(source), before); n != 1 {
		s.T.Fatalf("Go's time.Now is not as expected: found %d times", n)
	}
	dir := s.T.TempDir()
	changed := map[string]string{}
	for name, text := range map[string]string{"time.go": strings.Replace(string(source), before, after, 1), "off.go": follow} {
		changed[filepath.Join(std, name)] = filepath.Join(dir, name)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			s.T.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": changed})
	if err != nil {
		s.T.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
		s.T.Fatal(err)
	}
	clocked := s.w.binary + "-clocked" // the reaper finds daemons by the start of this path
	s.T.Cleanup(func() { _ = os.Remove(clocked) })
	over := filepath.Join(dir, "overlay.json")
	if err := s.w.command("go", "build", "-overlay", over, "-o", clocked, "./cmd/webhook-dispatcher"); err != nil {
		s.T.Fatal(err)
	}
	ordinary := s.binary
	defer func() { s.binary = ordinary }()
	s.binary = clocked
	return s.Serve(append(settings, "CLOCK="+string(c))...)
}
