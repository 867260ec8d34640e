package main

import (
	"bytes"
	"context"
	"flag"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/cli"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// varying is what differs from run to run, with what stands in the golden file instead.
var varying = [][2]string{
	{`\d\d:\d\d:\d\d\.\d{3}`, "00:00:00.000"},
	{`127\.0\.0\.1:\d+`, "127.0.0.1:PORT"},
	{`-P \d+`, "-P PORT"},
	{`(after|in) [0-9.]+m?s`, "$1 TIME"},
}

// normal returns the output without what differs, the requests in one order.
func normal(out string) string {
	for _, v := range varying {
		out = regexp.MustCompile(v[0]).ReplaceAllString(out, v[1])
	}
	lines := strings.SplitAfter(out, "\n")
	isRequest := func(line string) bool { return strings.HasPrefix(line, "00:00:00.000") }
	from := slices.IndexFunc(lines, isRequest)
	if from < 0 {
		return strings.Join(lines, "")
	}
	to := from
	for to < len(lines) && isRequest(lines[to]) {
		to++
	}
	slices.Sort(lines[from:to])
	return strings.Join(lines, "")
}

// The whole system, started and ended in process, delivers everything and says so.
func TestOnce(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"--once", "--events", "15"}, &out, &errs); code != cli.ExitGood {
		t.Errorf("exit code %d", code)
	}
	if errs.Len() > 0 {
		t.Errorf("stderr on the happy path: %s", errs.String())
	}
	got := normal(out.String())
	const file = "testdata/once.golden"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("output is not that of %s (-update writes it anew):\n%s", file, got)
	}
}

// What does not arrive in time is named, and the exit code tells.
func TestOnceDeadline(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"--once", "--events", "15", "--deadline", "1500ms"}, &out, &errs); code != cli.ExitFailed {
		t.Errorf("exit code %d; the refused deliveries take 3 s", code)
	}
	if !strings.Contains(out.String(), "MISSING: event ") || strings.Contains(out.String(), "nothing was lost") {
		t.Errorf("stdout: %s", out.String())
	}
	if !strings.Contains(errs.String(), "see the summary above") {
		t.Errorf("stderr: %s", errs.String())
	}
}

// signalWriter ends a context when a text has been written.
type signalWriter struct {
	mu   sync.Mutex
	text strings.Builder
	want string
	seen context.CancelFunc
}

func (w *signalWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(p)
	if strings.Contains(w.text.String(), w.want) {
		w.seen()
	}
	return len(p), nil
}

// Ctrl-C ends everything in good order, whatever is under way.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]string{"at the start": "sandbox, up after", "with retries due": "503 refused"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			out := &signalWriter{want: after, seen: cancel}
			var errs bytes.Buffer
			if code := run(ctx, []string{"--every", "20ms", "--bodies"}, out, &errs); code != cli.ExitGood {
				t.Errorf("exit code %d", code)
			}
			if errs.Len() > 0 {
				t.Errorf("stderr: %s", errs.String())
			}
			if text := out.text.String(); !strings.Contains(text, "\nstopped: ") {
				t.Errorf("stdout: %s", text)
			}
		})
	}
}

func TestInterruptedBeforeTheStart(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var errs bytes.Buffer
	if code := run(ctx, nil, io.Discard, &errs); code != cli.ExitGood || errs.Len() > 0 {
		t.Errorf("exit code %d, stderr: %s", code, errs.String())
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args string
		code int
		says string // on stderr, or stdout where the code is good
	}{
		{"--help", cli.ExitGood, "--once"},
		{"--nonsense", cli.ExitUsage, "--nonsense"},
		{"--events 0", cli.ExitUsage, "--events is 0"},
		{"--every 0s", cli.ExitUsage, "--every is 0s"},
		{"--deadline -1s", cli.ExitUsage, "--deadline"},
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), strings.Fields(test.args), &out, &errs); code != test.code {
			t.Errorf("%s: exit code %d, want %d", test.args, code, test.code)
		}
		if said := out.String() + errs.String(); !strings.Contains(said, test.says) {
			t.Errorf("%s: %s", test.args, said)
		}
	}
}
