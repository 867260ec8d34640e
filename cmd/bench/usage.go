package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of times in /proc: USER_HZ, which is 100 on all of Go's Linux ports.
const tick = 10 * time.Millisecond

// cpu returns the CPU time of all threads of the process, kernel included.
func (p *process) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("read the CPU time of the daemon: %w", err)
	}
	// Field 2 is the name in parentheses and may contain spaces; 14 and 15 are utime and stime.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	var sum int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read the CPU time of the daemon: %w", err)
		}
		sum += n
	}
	return time.Duration(sum) * tick, nil
}

// peak returns the peak resident memory of the process in bytes.
func (p *process) peak() (int64, error) {
	text, err := procField(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid), "VmHWM")
	if err != nil {
		return 0, fmt.Errorf("read the memory of the daemon: %w", err)
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(text, " kB"), 10, 64)
	return n << 10, err
}

// spent calls f. It returns the CPU time of the process meanwhile, and the peak of its memory so far.
func (p *process) spent(f func() error) (cpu time.Duration, peak int64, err error) {
	before, err := p.cpu()
	if err != nil {
		return 0, 0, err
	}
	if err := f(); err != nil {
		return 0, 0, err
	}
	after, err := p.cpu()
	if err != nil {
		return 0, 0, err
	}
	peak, err = p.peak()
	return after - before, peak, err
}

// machine describes the machine and the Go version.
func machine() string {
	model, err := procField("/proc/cpuinfo", "model name")
	if err != nil {
		model = "unknown processor"
	}
	return fmt.Sprintf("%s, %d CPUs, %s/%s, %s", model, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
}

// procField returns the value of the first line "name: value" of a file in /proc.
func procField(path, name string) (string, error) {
	text, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("%s has no %s", path, name)
}
