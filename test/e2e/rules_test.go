//go:build e2e

package e2e

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestRulesEditedInDjango changes rows through Django's ORM, as its admin pages do, while a real publisher goes on sending.
func TestRulesEditedInDjango(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const refresh = time.Second
	limit := refresh + 2*time.Second
	s.producer.create(registrations, 3)
	django := s.orm()
	add := func(event, url string) int { return django.add(map[string]any{"event": event, "webhook_url": url}) }
	steady := add(registrationRule, s.url("steady"))
	// Wrong rows, which Django's forms may refuse but its tables hold.
	wrong := map[int]string{
		add(registrationRule, "ftp://"+secretPath+"@127.0.0.1/"+secretPath): "ftp",
		add("NO_SUCH_EVENT", s.url("unknown")):                              "unknown event",
		add(registrationRule, "http://[::1/"+secretPath):                    "does not parse",
		add(registrationRule, ""):                                           "empty",
		add("CourseEnrollmentStarted", s.url("filter")):                     "filter",
	}
	d := s.serve("WEBHOOK_DISPATCHER_RULES_REFRESH="+refresh.String(), slowHandOff)
	stream := s.publish("--type", "student.registration.completed", "--count", "4000", "--rate", "40")
	eventually(t, 30*time.Second, "the first event", func() error { return atLeast(s.count("steady"), 1) })

	// within tells how long it took until an edit was seen: until a hook got requests, or got none any more.
	starts := func(hook string) time.Duration {
		t.Helper()
		return eventually(t, limit, hook+" gets events", func() error { return atLeast(s.count(hook), 1) })
	}
	stops := func(hook string) {
		t.Helper()
		before, at := s.count(hook), time.Now()
		eventually(t, limit, hook+" gets no event any more", func() error {
			if n := s.count(hook); n != before {
				before, at = n, time.Now()
			}
			return atLeast(int(time.Since(at)/time.Millisecond), 600) // 24 events of the stream
		})
	}
	added := django.add(map[string]any{
		"event": strings.ToLower(registrationRule), "webhook_url": s.url("added"), "use_www_form_encoding": true,
	})
	took := []time.Duration{starts("added")}
	django.edit(added, map[string]any{"webhook_url": s.url("moved")})
	took = append(took, starts("moved"))
	stops("added")
	django.edit(added, map[string]any{"enabled": false})
	stops("moved")
	s.on("moved-again", answers(200))
	django.edit(added, map[string]any{"enabled": true, "webhook_url": s.url("moved-again"), "use_www_form_encoding": false})
	took = append(took, starts("moved-again"))
	django.remove(added)
	stops("moved-again")
	// A row that was wrong is put right, and a right one made wrong.
	django.edit(steady, map[string]any{"webhook_url": "ftp://127.0.0.1/"})
	stops("steady")
	django.edit(steady, map[string]any{"webhook_url": s.url("mended")})
	took = append(took, starts("mended"))
	if request := s.got("added")[0]; request.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || request.Event == "" {
		t.Errorf("the form rule sent %q: %s", request.Header.Get("Content-Type"), request.Body)
	}

	// The commands, with the account that may change rows and with the one that may not.
	listed := s.list()
	for id, fault := range wrong {
		if row := listed[id]; !strings.Contains(row.Fault, fault) || row.URL != "" {
			t.Errorf("rules list shows the fault of rule %d as %q (URL %q), want %q in it", id, row.Fault, row.URL, fault)
		}
	}
	id, err := strconv.Atoi(s.rule("by-command"))
	if err != nil {
		t.Fatal(err)
	}
	took = append(took, starts("by-command"))
	if row := s.list()[id]; row.Fault != "" || !row.Enabled || row.Event != registrationRule {
		t.Errorf("rules list shows the added rule as %+v", row)
	}
	if out := s.run("rules", "rules", "test", strconv.Itoa(id)); strings.Contains(out, secretPath) || !strings.Contains(out, "UserData") {
		t.Errorf("rules test printed %s", out)
	}
	s.on("tested", answers(200))
	django.edit(id, map[string]any{"webhook_url": s.url("tested"), "enabled": false})
	stops("by-command")
	s.run("rules", "rules", "test", strconv.Itoa(id), "--send")
	if n := s.count("tested"); n != 1 {
		t.Errorf("rules test --send sent %d requests", n)
	}
	for _, refused := range [][]string{
		{"--event", registrationRule, "--url", "ftp://127.0.0.1/"},
		{"--event", "NO_SUCH_EVENT", "--url", s.url("x")},
		{"--event", registrationRule, "--url", "http://[::1/"},
	} {
		if _, stderr, code := s.try("rules", nil, append([]string{"rules", "add"}, refused...)...); code != 2 {
			t.Errorf("rules add %v: exit code %d, want 2: %s", refused, code, stderr)
		}
	}
	_, stderr, code := s.try("serve", nil, "rules", "add", "--event", registrationRule, "--url", s.url("x"))
	if code != 1 || !strings.Contains(stderr, "denied") {
		t.Errorf("rules add with the account of serve: exit code %d, want 1: %s", code, stderr)
	}
	events := stream.stop()
	eventually(t, 20*time.Second, "offsets", func() error { return s.producer.allCommitted(registrations) })
	d.terminate()
	figure(t, "%d events; edits were seen after %v; %d faults listed", len(events), took, len(wrong))
	// A delivery that was planned right before its rule was disabled may have become a row.
	if rows := s.rows("rule_id NOT IN (?, ?)", added, id); rows > 0 {
		t.Errorf("%d rows were written though every request was answered with 200", rows)
	}
}

// listedRule is a rule as `rules list --json` prints it.
type listedRule struct {
	ID         int
	Event, URL string
	Enabled    bool
	Status     string
	Fault      string
}

func (s *site) list() map[int]listedRule {
	s.t.Helper()
	var rows []listedRule
	if err := json.Unmarshal([]byte(s.run("rules", "rules", "list", "--json")), &rows); err != nil {
		s.t.Fatal(err)
	}
	byID := map[int]listedRule{}
	for _, row := range rows {
		byID[row.ID] = row
	}
	return byID
}
