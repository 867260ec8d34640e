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

	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// filterRow inserts a row into the plugin's webfilter table; more is SQL that sets further columns.
func filterRow(s *harness.Site, event, url string, enabled bool, more string) int64 {
	s.T.Helper()
	result, err := s.DB.Exec(`INSERT INTO openedx_webhooks_webfilter SET created = UTC_TIMESTAMP(6), modified = UTC_TIMESTAMP(6),
  description = '', event = ?, webhook_url = ?, enabled = ?, disable_filtering = 0, disable_halt = 0, halt_on_4xx = 0,
  redirect_on_4xx = '', halt_on_5xx = 0,
  redirect_on_5xx = '', halt_on_request_exception = 0, redirect_on_request_exception = '', use_www_form_encoding = 0`, event, url, enabled)
	if err != nil {
		s.T.Fatal(err)
	}
	id, err := result.LastInsertId()
	if err != nil {
		s.T.Fatal(err)
	}
	if more != "" {
		if _, err := s.DB.Exec("UPDATE openedx_webhooks_webfilter SET "+more+" WHERE id = ?", id); err != nil {
			s.T.Fatal(err)
		}
	}
	return id
}

// says returns a script that answers 200 with a body.
func says(body string) harness.Script {
	return func(int, *harness.Received) harness.Reply { return harness.Reply{Status: http.StatusOK, Body: body} }
}

const userData = "openedx_events.learning.data.UserData"

// TestFiltersOnTheBus has webfilters that change events, stop them, or cannot be reached.
func TestFiltersOnTheBus(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	s.Rule("hook")
	s.Rule("other", "--filter", "$data.changed == true")
	filterRow(s, harness.RegistrationRule, s.URL("change"), true, "")
	filterRow(s, harness.RegistrationRule, "http://127.0.0.1:1/"+harness.SecretPath, true, "") // nothing listens there
	filterRow(s, harness.RegistrationRule, s.URL("stop"), true, "halt_on_4xx = 1")
	s.On("change", func(_ int, got *harness.Received) harness.Reply {
		n := harness.Learner(got.Event)
		if n%3 == 1 {
			return harness.Reply{Status: http.StatusOK, Body: "<html>"}
		}
		return harness.Reply{Status: http.StatusOK, Body: fmt.Sprintf(`{"data": {"%s": {"number": %d, "changed": true}}}`, userData, n)}
	})
	s.On("stop", func(_ int, got *harness.Received) harness.Reply {
		if harness.Learner(got.Event)%5 == 0 {
			return harness.Reply{Status: http.StatusForbidden}
		}
		return harness.Reply{Status: http.StatusOK, Body: "{}"}
	})
	s.Producer.CreateTopic(harness.Registrations, 2)
	d := s.Serve(harness.SlowHandOff)
	ids := s.Producer.Publish(harness.Registrations, 2, 1, 30)
	var through, changed []string
	for i, id := range ids {
		if n := i + 1; n%5 != 0 {
			through = append(through, id)
			if n%3 != 1 {
				changed = append(changed, id)
			}
		}
	}
	s.Delivers("hook", through, 30*time.Second)
	s.Delivers("other", changed, 30*time.Second)
	s.Producer.WaitCommitted(10*time.Second, harness.Registrations)
	for _, got := range s.Got("hook") {
		n := harness.Learner(got.Event)
		want := fmt.Sprintf(`{"%s": {"number": %d, "changed": true}, "event_metadata": {`, userData, n)
		if strings.HasPrefix(got.Body, want) != (n%3 != 1) {
			t.Errorf("event %d came as %s", n, got.Body)
		}
	}
	d.WaitMetric(`webhook_dispatcher_filtered_events_total{result="halted"}`, 6, 10*time.Second)
	harness.Eventually(t, 10*time.Second, "the attempt log", func() error {
		return harness.Want("halts", s.MustNumber(`SELECT COUNT(*) FROM webhook_dispatcher_attempt
  WHERE kind = 2 AND error_class = 'halted' AND status = 403`), 6)
	})
	if n := s.Rows("1 = 1"); n != 0 {
		t.Errorf("%d rows were written though everything was quick", n)
	}
	d.Terminate()
}

// checkFiltered fails the test if a hook got an event that its webfilter has not replaced by
// "seen".
func checkFiltered(s *harness.Site, hook string) {
	s.T.Helper()
	for _, got := range s.Got(hook) {
		if !strings.HasPrefix(got.Body, `{"`+userData+`": "seen", `) {
			s.T.Fatalf("an event came past its filter: %s", got.Body)
		}
	}
}

// TestSlowFilter has a webfilter that takes longer than the hand-off time, and a daemon that is
// killed midway. Events become rows, and each is delivered with the webfilter's changes.
func TestSlowFilter(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	s.Rule("hook")
	filterRow(s, harness.RegistrationRule, s.URL("slow"), true, "")
	s.On("slow", func(int, *harness.Received) harness.Reply {
		return harness.Reply{
			Status: http.StatusOK, Body: `{"data": {"` + userData + `": "seen"}}`,
			After: harness.Passed(1200 * time.Millisecond),
		}
	})
	s.Producer.CreateTopic(harness.Registrations, 2)
	d := s.Serve()
	ids := s.Producer.Publish(harness.Registrations, 2, 1, 40)
	harness.Eventually(t, 20*time.Second, "rows of events", func() error {
		return harness.AtLeast(s.Rows("kind = 2"), 10)
	})
	s.Producer.WaitCommitted(10*time.Second, harness.Registrations)
	d.Kill()
	d = s.Serve()
	s.Delivers("hook", ids, 100*time.Second) // the killed daemon's leases run out after a minute
	checkFiltered(s, "hook")
	harness.Eventually(t, 20*time.Second, "the end of all rows", func() error {
		return harness.Want("rows", s.Rows("state IN (0, 1) OR kind = 2"), 0)
	})
	d.Terminate()
}

// TestBurstOfFilteredEvents has more events than a webfilter gets at a time: each waits for its
// turn and arrives filtered.
func TestBurstOfFilteredEvents(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	s.Rule("hook")
	filterRow(s, harness.RegistrationRule, s.URL("slow"), true, "")
	s.On("slow", func(int, *harness.Received) harness.Reply {
		return harness.Reply{Status: http.StatusOK, Body: `{"data": {"` + userData + `": "seen"}}`, After: harness.Passed(200 * time.Millisecond)}
	})
	s.Producer.CreateTopic(harness.Registrations, 2)
	ids := s.Producer.Publish(harness.Registrations, 2, 1, 400)
	d := s.Serve("WEBHOOK_DISPATCHER_START_OFFSET=earliest")
	s.Delivers("hook", ids, 60*time.Second)
	checkFiltered(s, "hook")
	d.WaitMetric(`webhook_dispatcher_filter_calls_total{outcome="busy"}`, 0, 10*time.Second)
	harness.Eventually(t, 20*time.Second, "the end of all rows", func() error {
		return harness.Want("rows", s.Rows("state IN (0, 1) OR kind = 2"), 0)
	})
	d.Terminate()
}

// TestFiltersOfOneTypeDelayNoOther has two event types in one partition. Events of one wait for
// slow webfilters; those of the other, with a quick one, must not.
func TestFiltersOfOneTypeDelayNoOther(t *testing.T) {
	t.Parallel()
	const login, loginRule = "org.openedx.learning.auth.session.login.completed.v1", "SESSION_LOGIN_COMPLETED"
	s := harness.NewSite(t)
	s.Rule("hook")
	s.Run("rules", "rules", "add", "--event", loginRule, "--url", s.URL("login"))
	filterRow(s, harness.RegistrationRule, s.URL("slow"), true, "")
	// Together they need nearly the whole deadline.
	filterRow(s, harness.RegistrationRule, s.URL("slow"), true, "")
	filterRow(s, loginRule, s.URL("quick"), true, "")
	s.On("slow", func(int, *harness.Received) harness.Reply {
		return harness.Reply{Status: http.StatusOK, Body: "{}", After: harness.Passed(900 * time.Millisecond)}
	})
	s.On("quick", says(`{"data": {"`+userData+`": "seen"}}`))
	s.Producer.CreateTopic(harness.Registrations, 1)
	logins := func(first, last int) (ids []string) {
		for n := first; n <= last; n++ {
			record, id := s.Producer.Event(harness.Registrations, 1, n)
			for i := range record.Headers {
				if record.Headers[i].Key == "ce_type" {
					record.Headers[i].Value = []byte(login)
				}
			}
			if err := s.Producer.Client.ProduceSync(t.Context(), record).FirstErr(); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		return ids
	}
	d := s.Serve()
	ids := logins(1, 1)
	s.Delivers("login", ids, 30*time.Second)
	s.Producer.Publish(harness.Registrations, 1, 1001, 1800)
	ids = append(ids, logins(2, 10)...)
	took := s.Delivers("login", ids, 30*time.Second)
	if t.Logf("events with a quick filter took %s", took); took > 3*time.Second {
		t.Error("they waited for filters of others")
	}
	if n := len(s.Taken("hook")); n == 800 {
		t.Error("no event was waiting for the slow filters by then: the test shows nothing")
	}
	checkFiltered(s, "login")
	harness.Eventually(t, 30*time.Second, "rows in the lane of the first filter", func() error {
		return harness.AtLeast(s.Rows(`kind = 2 AND rule_id =
  (SELECT MIN(id) FROM openedx_webhooks_webfilter WHERE event = ?)`, harness.RegistrationRule), 1)
	})
	d.Terminate()
}

// TestFilterEndpoint calls the daemon's filter endpoint as the plugin does, for adopted rows, with
// and without the database.
func TestFilterEndpoint(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	const token = "canary-filter-token-0123456789"
	adopted := func(url, more string) {
		id := filterRow(s, "CourseEnrollmentStarted", url, false, more)
		if _, err := s.DB.Exec(`INSERT INTO webhook_dispatcher_rule_option (kind, rule_id, enabled, adopted_at, rule_created, url_sha256, options,
  updated_at) SELECT 2, id, 1, UTC_TIMESTAMP(6), created, REPEAT('x', 32), '{}', UTC_TIMESTAMP(6)
  FROM openedx_webhooks_webfilter WHERE id = ?`,
			id); err != nil {
			t.Fatal(err)
		}
	}
	adopted(s.URL("first"), "")
	adopted(s.URL("second"), "halt_on_4xx = 1, redirect_on_4xx = 'https://campus.example/no'")
	filterRow(s, "CourseEnrollmentStarted", s.URL("plugins"), true, "") // not adopted: the plugin calls it
	s.On("first", says(`{"data": {"mode": "free"}}`))
	s.On("second", says(`{"data": {"mode": "verified", "x": 1}, "exception": {"PreventEnrollment": "no"}}`))
	s.Producer.CreateTopic(harness.Registrations, 1)
	db := harness.NewProxy(t, s.MariaDB.Address())
	d := s.Serve(s.Through(db), "WEBHOOK_DISPATCHER_FILTER_LISTEN=127.0.0.1:0",
		"WEBHOOK_DISPATCHER_FILTER_TOKENS=another-token-987654321,"+token)
	match := regexp.MustCompile(`"component":"filters","address":"([^"]+)"`).FindStringSubmatch(d.Log.String())
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
	if got := s.Got("first"); len(got) != 1 || got[0].Body != body {
		t.Errorf("the first row got %+v", got)
	}
	if s.Count("plugins") != 0 {
		t.Error("a row was called that is the plugin's")
	}
	s.On("second", harness.Answers(403))
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

	db.Refuse()
	d.WaitNotReady("database", "", 10*time.Second) // of /readyz
	halts("without the database")
	for role, want := range map[string]int{"filters": http.StatusOK, "consuming": http.StatusServiceUnavailable} {
		if status, answer, err := d.Get("/readyz?role=" + role); status != want || err != nil {
			t.Errorf("ready for %s without the database: %d %s %v", role, status, answer, err)
		}
	}
	db.Restore(t)
	d.WaitReady(30 * time.Second)
	if strings.Contains(d.Log.String(), token) {
		t.Error("the log holds the token")
	}
	d.Terminate()
}
