package replay

import (
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// since is a snapshot of one rule that was adopted at a moment, with options.
func (w *world) since(adopted time.Time, document string) *rule.Snapshot {
	w.t.Helper()
	rows := []rule.Row{{ID: 1, Created: began, Modified: adopted, Event: "STUDENT_REGISTRATION_COMPLETED", URL: "http://x/"}}
	options := []rule.Option{{
		Key: rule.Key{Table: rule.Webhooks, ID: 1}, RuleCreated: began, Enabled: true, AdoptedAt: adopted, Document: document,
	}}
	return rule.NewSnapshot(rule.Tables{Webhooks: rows, Options: options}, &rule.Compiler{Catalogue: w.catalogue, Adopted: true})
}

// A replay of a time also makes events from before the rule's adoption: the plugin may have failed
// to send them.
func TestReplayFromBeforeTheAdoption(t *testing.T) {
	t.Parallel()
	w := full(t)
	adopted := w.since(began.Add(24*time.Hour), "").Match(registered)[0]
	c := choice(w)
	c.Rule = adopted
	report, err := w.replayer(true, false).FromTopics(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "counts", counts(&report.Counts), "3 2 2 1 1 0")

	a := w.replayer(true, false).Renewal()
	a.Search(summary(22, idOf(22)), adopted)
	counted, failures, err := a.Finish(t.Context())
	if err != nil || len(failures) > 0 {
		t.Fatal(failures, err)
	}
	want(t, "counts under new ids", counts(&counted), "1 0 0 0 0 0")
}

// An undecodable record belongs to the plugin or the dispatcher by its event's time, as if it had
// been decoded at once.
func TestRedeliverKeepsToTheWindows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keep(1, w.record(10))
	w.keep(2, w.record(90))
	rules := w.since(began.Add(time.Hour), "")
	for number, deliveries := range map[uint64]int{1: 0, 2: 1} {
		outcome, err := w.replayer(true, false).Redeliver(t.Context(), number, rules)
		if err != nil {
			t.Fatal(err)
		}
		want(t, "outcome", outcome, Outcome{Deliveries: deliveries})
	}
}

// An event that the rule's filter leaves out by now is not passed over in silence.
func TestRenewalSaysWhatTheFilterLeavesOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.partition("a", 0, w.record(1), w.record(2))
	filtered := w.since(began, `{"filter":"$data.id == 2"}`).Match(registered)[0]
	a := w.replayer(true, false).Renewal()
	a.Search(summary(1, idOf(1)), filtered)
	a.Search(summary(2, idOf(2)), filtered)
	counted, failures, err := a.Finish(t.Context())
	if err != nil || len(failures) != 1 {
		t.Fatal(failures, err)
	}
	want(t, "counts", counts(&counted), "1 0 0 0 0 0")
	want(t, "failure", failures[0], Failure{idOf(1), "its rule's filter leaves the event out now"})
}
