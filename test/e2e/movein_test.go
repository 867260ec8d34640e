//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// The events of these tests and their topics in the platform's settings.
const (
	enrollments    = "learning-course-enrollment-lifecycle"
	enrollmentRule = "COURSE_ENROLLMENT_CREATED"
	logins         = "user-login"
	loginRule      = "SESSION_LOGIN_COMPLETED"
)

// moving is a site whose rows move between the dispatcher and the plugin, which runs in a Django.
// Each hook belongs to one row.
type moving struct {
	*harness.Site

	ids      map[string]int    // of the rows, by hook
	types    map[string]string // parts of the event types that they are for
	switches []switched
}

// switched is an adoption or a release of a row, and when its command began and ended.
type switched struct {
	hook         string
	adopted      bool
	begun, ended time.Time
}

func newMoving(t *testing.T, settings ...string) *moving {
	t.Helper()
	m := &moving{Site: harness.NewSite(t), ids: map[string]int{}, types: map[string]string{}}
	// Rules are refreshed so rarely that an event is lost if rules from before an adoption decide
	// about it.
	m.Settings = append([]string{
		"WEBHOOK_DISPATCHER_RULES_SOURCE=adopted", "WEBHOOK_DISPATCHER_RULES_REFRESH=1m",
		"WEBHOOK_DISPATCHER_TOPICS=" + strings.Join([]string{harness.Registrations, enrollments, logins}, ","),
		"WEBHOOK_DISPATCHER_RETRY_SCHEDULE=" + strings.TrimSuffix(strings.Repeat("1s,", 40), ","),
	}, settings...)
	for _, topic := range []string{harness.Registrations, enrollments, logins} {
		m.Producer.CreateTopic(topic, 2)
	}
	return m
}

// add creates enabled rows in Django, as its admin pages do. A row is a hook, an event, and a part
// of the event's type.
func (m *moving) add(rows ...[3]string) {
	m.T.Helper()
	django := m.ORM()
	for _, row := range rows {
		m.ids[row[0]], m.types[row[0]] = django.Add(map[string]any{"event": row[1], "webhook_url": m.URL(row[0])}), row[2]
	}
	// rules adopt waits for rows that running daemons may not know yet. No daemon runs here.
	if _, err := m.DB.Exec("UPDATE openedx_webhooks_webhook SET modified = modified - INTERVAL 1 MINUTE"); err != nil {
		m.T.Fatal(err)
	}
}

// adopt and release run the command for a hook's row.
func (m *moving) adopt(hook string)   { m.T.Helper(); m.switchOver(hook, "adopt") }
func (m *moving) release(hook string) { m.T.Helper(); m.switchOver(hook, "release") }

func (m *moving) switchOver(hook, verb string) {
	m.T.Helper()
	begun := time.Now()
	out := m.Run("rules", "rules", verb, strconv.Itoa(m.ids[hook]))
	m.switches = append(m.switches, switched{hook, verb == "adopt", begun, time.Now()})
	if !strings.Contains(out, verb) || strings.Contains(out, "nothing was changed") {
		m.T.Fatalf("rules %s printed %s", verb, out)
	}
}

// more waits for n more requests to a hook.
func (m *moving) more(hook string, n int) {
	m.T.Helper()
	before := m.Count(hook)
	harness.Eventually(m.T, 30*time.Second, "events go on", func() error {
		return harness.AtLeast(m.Count(hook)-before, n)
	})
}

func byDispatcher(r *harness.Received) bool {
	return strings.HasPrefix(r.Header.Get("User-Agent"), "webhook-dispatcher/")
}

// came counts how often a hook has taken an event, by sender.
type came struct{ plugin, dispatcher int }

func (m *moving) came(hook string) map[string]came {
	m.T.Helper()
	events, ids := map[string]came{}, map[string]string{}
	for _, r := range m.Got(hook) {
		c := events[r.Event]
		switch {
		case r.Status/100 != 2:
		case byDispatcher(&r):
			c.dispatcher++
			if first, again := ids[r.Event]; again && first != r.ID {
				m.T.Errorf("%s: event %s came under two ids, %s and %s", hook, r.Event, first, r.ID)
			}
			ids[r.Event] = r.ID
		default:
			c.plugin++
		}
		events[r.Event] = c
	}
	return events
}

// lost returns an error unless every hook has got all its events.
func (m *moving) lost(events []harness.Published) error {
	var lost []string
	for hook, part := range m.types {
		taken := m.came(hook)
		for _, e := range events {
			if strings.Contains(e.Type, part) && taken[e.ID] == (came{}) {
				lost = append(lost, fmt.Sprintf("%s %d at %s", hook, e.Number, e.Time.Format("05.000")))
			}
		}
	}
	if len(lost) == 0 {
		return nil
	}
	slices.Sort(lost)
	return fmt.Errorf("%d events are missing: %s", len(lost), strings.Join(lost[:min(len(lost), 12)], ", "))
}

// margin is how far the recorded time of a switch may be from the end of its command.
const margin = 2 * time.Second

// check checks who has sent what, and returns how many events came from both.
func (m *moving) check(events []harness.Published) (both int) {
	m.T.Helper()
	const skew = time.Minute
	for hook, part := range m.types {
		var own []switched
		for _, s := range m.switches {
			if s.hook == hook {
				own = append(own, s)
			}
		}
		for _, r := range m.Got(hook) {
			if byDispatcher(&r) && (len(own) == 0 || r.At.Before(own[0].begun)) {
				m.T.Errorf("%s: the dispatcher has sent event %s before the row was adopted", hook, r.Event)
			}
		}
		taken := m.came(hook)
		for _, e := range events {
			c := taken[e.ID]
			if !strings.Contains(e.Type, part) {
				if c != (came{}) {
					m.T.Errorf("%s: event %d has come, of type %s", hook, e.Number, e.Type)
				}
				continue
			}
			if c.plugin > 1 {
				m.T.Errorf("%s: the plugin has sent event %d %d times", hook, e.Number, c.plugin)
			}
			ours, near := false, false
			for i, s := range own {
				if e.Time.After(s.begun.Add(-skew-margin)) && e.Time.Before(s.ended.Add(skew+margin)) {
					near = true
				}
				if s.adopted && e.Time.After(s.ended) && (i == len(own)-1 || e.Time.Before(own[i+1].begun.Add(-margin))) {
					ours = true
				}
			}
			if c.plugin > 0 && c.dispatcher > 0 {
				if both++; !near {
					m.T.Errorf("%s: event %d of %s was sent by both, far from any switch", hook, e.Number, e.Time)
				}
			}
			if ours && c.plugin > 0 {
				m.T.Errorf("%s: the plugin has sent event %d of %s, while the row was adopted", hook, e.Number, e.Time)
			}
		}
	}
	return both
}

// TestMoveIn adopts and releases rows while a Django with the real plugin keeps sending events, in
// process and through the bus. No event may be lost, none may be sent by a side that does not own
// the row, and only events near a switch may be sent by both.
func TestMoveIn(t *testing.T) {
	t.Parallel()
	m := newMoving(t)
	m.add(
		[3]string{"first", harness.RegistrationRule, "registration"},
		[3]string{"kept", harness.RegistrationRule, "registration"}, // stays the plugin's, so both sides have rows for its event type
		[3]string{"second", enrollmentRule, "enrollment"},
		[3]string{"lagging", loginRule, "login"},
	)
	var down atomic.Bool // answers only the dispatcher well: the plugin loses what is not taken
	m.On("second", func(_ int, r *harness.Received) harness.Reply {
		if down.Load() && byDispatcher(r) {
			return harness.Reply{Status: 503}
		}
		return harness.Reply{Status: 200}
	})

	// When the first daemon starts, Kafka still holds events that the plugin has sent long before
	// an adoption.
	old := m.Publish("--plugin", "--type", "login", "--count", "30", "--ahead", "-90").All()
	m.adopt("lagging")
	d := m.Serve()
	stream := m.Publish("--plugin", "--slow", "0.15", "--type", "registration", "--type", "enrollment", "--type", "login",
		"--count", "0", "--rate", "50")
	m.more("kept", 30)

	m.adopt("first")
	m.adopt("second")
	m.more("kept", 30)
	m.release("first")
	m.more("kept", 15)
	m.adopt("first")
	m.more("kept", 15)
	m.release("first")
	m.adopt("first") // taken back at once
	m.more("kept", 15)

	m.release("second")
	m.more("kept", 15)
	m.adopt("second")
	m.release("second") // within a second
	m.more("kept", 15)
	m.adopt("second")
	m.more("kept", 15)
	down.Store(true)
	m.more("kept", 30)
	waiting := m.Rows("rule_id = ? AND state IN (0, 1)", m.ids["second"])
	m.release("second")
	m.more("kept", 15)
	down.Store(false)
	m.more("kept", 15)
	events := stream.Stop()
	harness.Eventually(t, 30*time.Second, "every event to come", func() error { return m.lost(events) })

	// Events emitted after the release and the skew are sent by the plugin only.
	late := m.Publish("--plugin", "--type", "enrollment", "--count", "30", "--first", "100001", "--ahead", "90").All()
	for _, topic := range []string{harness.Registrations, enrollments, logins} {
		m.Producer.WaitCommitted(30*time.Second, topic)
	}
	all := slices.Concat(old, events, late)
	if err := m.lost(all); err != nil {
		t.Error(err)
	}
	both := m.check(all)
	if waiting == 0 {
		t.Error("no row was waiting when its rule was released")
	}
	harness.Eventually(t, 10*time.Second, "rows of released rules", func() error {
		return harness.Want("waiting", m.Rows("state IN (0, 1)"), 0)
	})
	readings, err := d.Metric("webhook_dispatcher_rule_refreshes_total")
	if err != nil {
		t.Error(err)
	}
	harness.Figure(t,
		"%d events, %d switches: none lost, %d sent by both; %d rows outlived a release; %g readings of the rules",
		len(all), len(m.switches), both, waiting, readings)
	d.Terminate()
}

// TestMoveInWithoutDatabase adopts a row while the daemon cannot reach the database, and again
// while the database is slow.
func TestMoveInWithoutDatabase(t *testing.T) {
	t.Parallel()
	m := newMoving(t)
	m.add([3]string{"first", harness.RegistrationRule, "registration"}, [3]string{"second", enrollmentRule, "enrollment"})
	m.adopt("second")
	db := harness.NewProxy(t, m.MariaDB.Address())
	d := m.Serve(m.Through(db))
	stream := m.Publish("--plugin", "--type", "registration", "--type", "enrollment", "--count", "0", "--rate", "40")
	m.more("first", 20)
	m.more("second", 20)

	db.Refuse()
	m.adopt("first")
	d.WaitNotReady("rules", "events wait", 20*time.Second)
	m.more("second", 60) // events that no adopted row may want continue
	if n := len(dispatched(m.Got("first"))); n > 0 {
		t.Errorf("%d events were sent by rules that nobody could read", n)
	}
	db.Restore(t)
	harness.Eventually(t, 20*time.Second, "what has waited", func() error {
		return harness.AtLeast(len(dispatched(m.Got("first"))), 30)
	})
	d.WaitReady(20 * time.Second)

	db.Cutting(func(*harness.Link, string) harness.Cut {
		<-time.After(300 * time.Millisecond)
		return harness.CutNowhere
	})
	m.release("first")
	m.more("second", 40)
	m.adopt("first")
	m.more("second", 60)
	m.release("second")
	m.adopt("second")
	m.more("second", 60)
	db.Restore(t)
	events := stream.Stop()
	harness.Eventually(t, 30*time.Second, "every event to come", func() error { return m.lost(events) })
	for _, topic := range []string{harness.Registrations, enrollments} {
		m.Producer.WaitCommitted(30*time.Second, topic)
	}
	both := m.check(events)
	failed, err := d.Metric(`webhook_dispatcher_rule_refreshes_total{result="failed"}`)
	if err := errors.Join(err, harness.AtLeast(int(failed), 2)); err != nil {
		t.Errorf("failed readings of the rules: %v", err)
	}
	harness.Figure(t,
		"%d events, %d switches, %g failed readings: none lost, %d sent by both",
		len(events), len(m.switches), failed, both)
	d.Terminate()
}

func dispatched(requests []harness.Received) []harness.Received {
	return slices.DeleteFunc(requests, func(r harness.Received) bool { return !byDispatcher(&r) })
}
