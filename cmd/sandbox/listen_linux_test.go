package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNoOtherListener asks the kernel: every socket on which this process listens, whoever opened
// it, is on 127.0.0.1.
func TestNoOtherListener(t *testing.T) {
	t.Parallel()
	startSandbox(t)
	own := map[string]bool{} // inodes of the process's sockets
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		target, err := os.Readlink(link)
		if inode, ok := strings.CutPrefix(target, "socket:["); err == nil && ok {
			own[strings.TrimSuffix(inode, "]")] = true
		}
	}
	const listening, loopback = "0A", "0100007F" // 127.0.0.1 as this file spells it on little-endian machines
	found := 0
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(file)
		if os.IsNotExist(err) && strings.HasSuffix(file, "6") {
			continue // a kernel without IPv6
		}
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if len(fields) < 10 || fields[3] != listening || !own[fields[9]] {
				continue
			}
			found++
			if host, _, _ := strings.Cut(fields[1], ":"); host != loopback {
				t.Errorf("a socket listens on %s of %s", fields[1], file)
			}
		}
	}
	if found < 5 {
		t.Errorf("%d listening sockets found, want broker, registry, database, receiver and daemon at least", found)
	}
}
