package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/fakes"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/suggest"
)

// terminal prints to the screen. It is safe for concurrent use.
type terminal struct {
	bodies bool
	colour bool

	mu  sync.Mutex // keeps lines whole
	out io.Writer
}

func newTerminal(out io.Writer, bodies bool) *terminal {
	t := &terminal{out: out, bodies: bodies}
	const off = "NO_COLOR" //nolint:misspell // so spelt by no-color.org
	if f, ok := out.(*os.File); ok && os.Getenv(off) == "" {
		info, err := f.Stat()
		t.colour = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return t
}

func (t *terminal) printf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.out, format, args...)
}

const (
	green  = "\x1b[32m" // taken
	cyan   = "\x1b[36m" // taken by retry
	yellow = "\x1b[33m" // refused
	plain  = "\x1b[0m"
)

const maxShape = 47 // characters, without the ellipsis

// arrival prints the line of one request.
func (t *terminal) arrival(a *arrival) {
	decision, colour := "taken", green
	switch {
	case a.status >= 300:
		decision, colour = "refused", yellow
	case a.attempt > 1:
		decision, colour = "retried", cyan
	}
	decision = fmt.Sprintf("%d %-7s", a.status, decision)
	if t.colour {
		decision = colour + decision + plain
	}
	line := fmt.Sprintf("%s  %s  %d %-12s try %d  %s %5d B  %s  %s\n",
		a.at.Format("15:04:05.000"), decision, a.rule.id, a.rule.name, a.attempt, encoding(a.format == delivery.FormatForm),
		len(a.body), strings.TrimPrefix(a.eventType, "org.openedx."), suggest.Clip(a.shape, maxShape))
	if t.bodies {
		line += "    " + string(a.body) + "\n"
	}
	t.printf("%s", line)
}

func encoding(form bool) string {
	if form {
		return "form"
	}
	return "json"
}

// banner prints the addresses of all servers.
func (t *terminal) banner(s *sandbox, once bool, took time.Duration) {
	host, port, _ := strings.Cut(s.database.Addr(), ":")
	var b strings.Builder
	row := func(what, where string) { fmt.Fprintf(&b, "  %-10s %s\n", what, where) }
	fmt.Fprintf(&b, "webhook-dispatcher sandbox, up after %s. Everything listens on 127.0.0.1 only.\n\n", took.Round(10*time.Millisecond))
	row("daemon", "http://"+s.daemon.Addr().String()+"/metrics, also /livez and /readyz")
	row("database", fmt.Sprintf("mysql -h %s -P %s -u root %s", host, port, fakes.DatabaseName))
	row("rules", fmt.Sprintf("go run ./cmd/webhook-dispatcher rules list --mysql-dsn '%s'", s.database.DSN()))
	row("", "rows of openedx_webhooks_webhook; changes take effect within a second")
	row("broker", strings.Join(s.broker.Addrs(), ",")+", topics "+topicPrefix+"-…")
	row("registry", s.registry.URL())
	row("receiver", "http://"+s.receiver.Addr().String())
	b.WriteByte('\n')
	for _, r := range s.rules {
		note := ""
		switch {
		case r.off:
			note = "  (disabled)"
		case r.form:
			note = "  (form-encoded)"
		case r.refuses > 0:
			note = fmt.Sprintf("  (refuses each delivery %d times, then accepts it)", r.refuses)
		}
		fmt.Fprintf(&b, "  rule %-3d %-12s %s%s\n", r.id, r.name, r.event, note)
	}
	end := "Ctrl-C stops it."
	if once {
		end = "It ends when everything is delivered."
	}
	t.printf("%s\n%s\n\n", b.String(), end)
}

// summary prints the result. It reports whether every delivery was accepted and all were due.
func (t *terminal) summary(l *ledger, took time.Duration) (well bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	var all tally
	for _, r := range l.rules {
		c := l.tallies[r.name]
		all.due += c.due
		all.taken += c.taken
		all.refused += c.refused
		all.repeats += c.repeats
		note := ""
		switch {
		case r.off:
			note = ", disabled"
		case c.refused > 0:
			note = fmt.Sprintf(", %d of them by retry after %d refusals", c.retried, c.refused)
		}
		fmt.Fprintf(&b, "  %-12s %-30s %s  %d of %d%s\n", r.name, r.event, encoding(r.form), c.taken, c.due, note)
	}
	fmt.Fprintf(&b, "\n%d retries, %d repeats, %d events without a matching rule\n", all.refused, all.repeats, l.unmatched)
	l.missing(&b)
	for _, fault := range l.faults {
		fmt.Fprintf(&b, "WRONG: %s\n", fault)
	}
	if well = len(l.due) == 0 && len(l.faults) == 0; well {
		b.WriteString("nothing was lost\n")
	}
	t.printf("\n%d events published, %d deliveries due, %d taken, in %s\n\n%s",
		l.events, all.due, all.taken, took.Round(100*time.Millisecond), b.String())
	return well
}

// missing writes the deliveries that are still due. The caller holds mu.
func (l *ledger) missing(b *strings.Builder) {
	const most = 10
	shown := 0
	for key, e := range l.due {
		if shown++; shown > most {
			fmt.Fprintf(b, "MISSING: and %d more\n", len(l.due)-most)
			break
		}
		fmt.Fprintf(b, "MISSING: event %s at %s, tried %d times\n", key.event, key.rule, e.attempts)
	}
}

// farewell is the summary of a run that was stopped. Deliveries that wait for a retry are not lost.
func (t *terminal) farewell(l *ledger) {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := 0
	for _, c := range l.tallies {
		taken += c.taken
	}
	t.printf("\nstopped: %d events published, %d deliveries taken, %d were still waiting\n", l.events, taken, len(l.due))
}
