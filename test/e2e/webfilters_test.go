//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// filterRow makes a row of the webfilter table, whose columns are those of the plugin; more are set as the text says.
func (s *site) filterRow(event, url string, enabled bool, more string) int64 {
	s.t.Helper()
	result, err := s.db.Exec(`INSERT INTO openedx_webhooks_webfilter SET created = UTC_TIMESTAMP(6), modified = UTC_TIMESTAMP(6),
  description = '', event = ?, webhook_url = ?, enabled = ?, disable_filtering = 0, disable_halt = 0, halt_on_4xx = 0,
  redirect_on_4xx = '', halt_on_5xx = 0,
  redirect_on_5xx = '', halt_on_request_exception = 0, redirect_on_request_exception = '', use_www_form_encoding = 0`, event, url, enabled)
	if err != nil {
		s.t.Fatal(err)
	}
	id, err := result.LastInsertId()
	if err != nil {
		s.t.Fatal(err)
	}
	if more != "" {
		if _, err := s.db.Exec("UPDATE openedx_webhooks_webfilter SET "+more+" WHERE id = ?", id); err != nil {
			s.t.Fatal(err)
		}
	}
	return id
}

// says returns a script that answers 200 with a body.
func says(body string) script {
	return func(int, *received) reply { return reply{status: http.StatusOK, body: body} }
}

const userData = "openedx_events.learning.data.UserData"

// TestFiltersOnTheBus has filters that change events, that stop them, that cannot be reached and that are slow.
func TestFiltersOnTheBus(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.rule("hook")
	s.rule("other", "--filter", "$data.changed == true")
	s.filterRow(registrationRule, s.url("change"), true, "")
	s.filterRow(registrationRule, "http://127.0.0.1:1/"+secretPath, true, "") // nobody listens there
	s.filterRow(registrationRule, s.url("stop"), true, "halt_on_4xx = 1")
	s.on("change", func(_ int, got *received) reply {
		n := learner(got.Event)
		if n%3 == 1 {
			return reply{status: http.StatusOK, body: "<html>"}
		}
		return reply{status: http.StatusOK, body: fmt.Sprintf(`{"data": {"%s": {"number": %d, "changed": true}}}`, userData, n)}
	})
	s.on("stop", func(_ int, got *received) reply {
		if learner(got.Event)%5 == 0 {
			return reply{status: http.StatusForbidden}
		}
		return reply{status: http.StatusOK, body: "{}"}
	})
	s.producer.create(registrations, 2)
	d := s.serve(slowHandOff)
	ids := s.producer.publish(registrations, 2, 1, 30)
	var through, changed []string
	for i, id := range ids {
		if n := i + 1; n%5 != 0 {
			through = append(through, id)
			if n%3 != 1 {
				changed = append(changed, id)
			}
		}
	}
	s.delivers("hook", through, 30*time.Second)
	s.delivers("other", changed, 30*time.Second)
	eventually(t, 10*time.Second, "offsets", func() error { return s.producer.allCommitted(registrations) })
	for _, got := range s.got("hook") {
		n := learner(got.Event)
		want := fmt.Sprintf(`{"%s": {"number": %d, "changed": true}, "event_metadata": {`, userData, n)
		if strings.HasPrefix(got.Body, want) != (n%3 != 1) {
			t.Errorf("event %d came as %s", n, got.Body)
		}
	}
	d.metricIs(`webhook_dispatcher_filtered_events_total{result="halted"}`, 6, 10*time.Second)
	eventually(t, 10*time.Second, "the attempt log", func() error {
		return want("halts", s.mustNumber(`SELECT COUNT(*) FROM webhook_dispatcher_attempt
  WHERE kind = 2 AND error_class = 'halted' AND status = 403`), 6)
	})
	if n := s.rows("1 = 1"); n != 0 {
		t.Errorf("%d rows were written though everything was quick", n)
	}
	d.terminate()
}

// filtered fails the test when a hook got an event that its filter had not made "seen" of.
func (s *site) filtered(hook string) {
	s.t.Helper()
	for _, got := range s.got(hook) {
		if !strings.HasPrefix(got.Body, `{"`+userData+`": "seen", `) {
			s.t.Fatalf("an event came past its filter: %s", got.Body)
		}
	}
}

// TestSlowFilter has a filter that takes longer than the hand-off time, under a daemon that is killed in the middle: events become rows,
// and each is delivered with what the filter made of it. Events without a filter do not wait.
func TestSlowFilter(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.rule("hook")
	s.filterRow(registrationRule, s.url("slow"), true, "")
	s.on("slow", func(int, *received) reply {
		return reply{status: http.StatusOK, body: `{"data": {"` + userData + `": "seen"}}`, after: passed(1200 * time.Millisecond)}
	})
	s.producer.create(registrations, 2)
	d := s.serve()
	ids := s.producer.publish(registrations, 2, 1, 40)
	eventually(t, 20*time.Second, "rows of events", func() error { return atLeast(s.rows("kind = 2"), 10) })
	eventually(t, 10*time.Second, "offsets", func() error { return s.producer.allCommitted(registrations) })
	d.kill()
	d = s.serve()
	s.delivers("hook", ids, 100*time.Second) // the leases of the killed daemon run out after a minute
	s.filtered("hook")
	eventually(t, 20*time.Second, "the end of all rows", func() error { return want("rows", s.rows("state IN (0, 1) OR kind = 2"), 0) })
	d.terminate()
}

// TestBurstOfFilteredEvents has more events at once than a filter takes at a time: each waits for its turn, and arrives filtered.
func TestBurstOfFilteredEvents(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.rule("hook")
	s.filterRow(registrationRule, s.url("slow"), true, "")
	s.on("slow", func(int, *received) reply {
		return reply{status: http.StatusOK, body: `{"data": {"` + userData + `": "seen"}}`, after: passed(200 * time.Millisecond)}
	})
	s.producer.create(registrations, 2)
	ids := s.producer.publish(registrations, 2, 1, 400)
	d := s.serve("WEBHOOK_DISPATCHER_START_OFFSET=earliest")
	s.delivers("hook", ids, 60*time.Second)
	s.filtered("hook")
	d.metricIs(`webhook_dispatcher_filter_calls_total{outcome="busy"}`, 0, 10*time.Second)
	eventually(t, 20*time.Second, "the end of all rows", func() error { return want("rows", s.rows("state IN (0, 1) OR kind = 2"), 0) })
	d.terminate()
}

// TestFiltersOfOneTypeDelayNoOther has events of one type wait for filters that take long, in the partition of another type, whose filter
// is quick.
func TestFiltersOfOneTypeDelayNoOther(t *testing.T) {
	t.Parallel()
	const login, loginRule = "org.openedx.learning.auth.session.login.completed.v1", "SESSION_LOGIN_COMPLETED"
	s := newSite(t)
	s.rule("hook")
	s.run("rules", "rules", "add", "--event", loginRule, "--url", s.url("login"))
	s.filterRow(registrationRule, s.url("slow"), true, "")
	s.filterRow(registrationRule, s.url("slow"), true, "") // both together need nearly all of the deadline
	s.filterRow(loginRule, s.url("quick"), true, "")
	s.on("slow", func(int, *received) reply {
		return reply{status: http.StatusOK, body: "{}", after: passed(900 * time.Millisecond)}
	})
	s.on("quick", says(`{"data": {"`+userData+`": "seen"}}`))
	s.producer.create(registrations, 1)
	logins := func(first, last int) (ids []string) {
		for n := first; n <= last; n++ {
			record, id := s.producer.event(registrations, 1, n)
			for i := range record.Headers {
				if record.Headers[i].Key == "ce_type" {
					record.Headers[i].Value = []byte(login)
				}
			}
			if err := s.producer.client.ProduceSync(t.Context(), record).FirstErr(); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		return ids
	}
	d := s.serve()
	ids := logins(1, 1)
	s.delivers("login", ids, 30*time.Second)
	s.producer.publish(registrations, 1, 1001, 1800)
	ids = append(ids, logins(2, 10)...)
	took := s.delivers("login", ids, 30*time.Second)
	if t.Logf("events with a quick filter took %s", took); took > 3*time.Second {
		t.Error("they waited for filters of others")
	}
	if n := len(s.taken("hook")); n == 800 {
		t.Error("no event was waiting for the slow filters by then: the test shows nothing")
	}
	s.filtered("login")
	eventually(t, 30*time.Second, "rows in the lane of the first filter", func() error {
		return atLeast(s.rows("kind = 2 AND rule_id = (SELECT MIN(id) FROM openedx_webhooks_webfilter WHERE event = ?)", registrationRule), 1)
	})
	d.terminate()
}

// TestFilterEndpoint asks the daemon as the plugin does, for rows that are adopted. It goes on without its database.
func TestFilterEndpoint(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const token = "canary-filter-token-0123456789"
	adopted := func(url, more string) {
		id := s.filterRow("CourseEnrollmentStarted", url, false, more)
		if _, err := s.db.Exec(`INSERT INTO webhook_dispatcher_rule_option (kind, rule_id, enabled, adopted_at, rule_created, url_sha256, options,
  updated_at) SELECT 2, id, 1, UTC_TIMESTAMP(6), created, REPEAT('x', 32), '{}', UTC_TIMESTAMP(6)
  FROM openedx_webhooks_webfilter WHERE id = ?`,
			id); err != nil {
			t.Fatal(err)
		}
	}
	adopted(s.url("first"), "")
	adopted(s.url("second"), "halt_on_4xx = 1, redirect_on_4xx = 'https://campus.example/no'")
	s.filterRow("CourseEnrollmentStarted", s.url("plugins"), true, "") // the plugin calls this one itself
	s.on("first", says(`{"data": {"mode": "free"}}`))
	s.on("second", says(`{"data": {"mode": "verified", "x": 1}, "exception": {"PreventEnrollment": "no"}}`))
	s.producer.create(registrations, 1)
	db := newProxy(t, s.mariadb.address())
	d := s.serve(s.through(db), "WEBHOOK_DISPATCHER_FILTER_LISTEN=127.0.0.1:0",
		"WEBHOOK_DISPATCHER_FILTER_TOKENS=another-token-987654321,"+token)
	match := regexp.MustCompile(`"component":"filters","address":"([^"]+)"`).FindStringSubmatch(d.log.String())
	if match == nil {
		t.Fatal("the log does not say where the filter endpoint listens")
	}
	ask := func(token, body string) (int, string) {
		t.Helper()
		url := "http://dispatcher:" + token + "@" + match[1] + "/filters/v1/CourseEnrollmentStarted"
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := (&http.Client{Timeout: 10 * time.Second}).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		answer, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(answer)
	}
	const body = `{"user": {"id": 4}, "mode": "audit", "event_metadata": {"event_type": "CourseEnrollmentStarted", ` +
		`"time": "2026-01-01T00:00:00+00:00"}}`
	status, answer := ask(token, body)
	if answer != `{"data": {"mode": "verified", "x": 1}, "exception": {"PreventEnrollment": "no"}}` || status != http.StatusOK {
		t.Errorf("the answer is %d %s", status, answer)
	}
	if got := s.got("first"); len(got) != 1 || got[0].Body != body {
		t.Errorf("the first row got %+v", got)
	}
	if s.count("plugins") != 0 {
		t.Error("a row was called that is the plugin's")
	}
	s.on("second", answers(403))
	halts := func(when string) {
		t.Helper()
		status, answer := ask(token, body)
		if status != http.StatusOK || !strings.Contains(answer, `{"exception": {"PreventEnrollment": {"message": "Request to http://`) ||
			!strings.Contains(answer, `"redirect_to": "https://campus.example/no", "status_code": 403}}}`) {
			t.Errorf("%s: the answer of a halt is %d %s", when, status, answer)
		}
	}
	halts("with the database")
	if status, _ := ask("wrong", body); status != http.StatusUnauthorized {
		t.Errorf("a wrong token got %d", status)
	}

	db.refuse()
	d.waitTrouble("database", "", 10*time.Second) // of /readyz
	halts("without the database")
	for role, want := range map[string]int{"filters": http.StatusOK, "consuming": http.StatusServiceUnavailable} {
		if status, answer, err := d.get("/readyz?role=" + role); status != want || err != nil {
			t.Errorf("ready for %s without the database: %d %s %v", role, status, answer, err)
		}
	}
	db.restore(t)
	d.waitReady(30 * time.Second)
	if strings.Contains(d.log.String(), token) {
		t.Error("the log holds the token")
	}
	d.terminate()
}
