package replay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode/confluent"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

func want[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// counts writes them in the order of their fields.
func counts(c *Counts) string {
	return fmt.Sprint(c.Inserted, c.Revived, c.Waiting, c.Delivered, c.Halted, c.Unfit)
}

// full is a world with a row in each state, events of two types in two topics, records that cannot
// be decoded, and events before and after the range of choice.
func full(t *testing.T) *world {
	w := newWorld(t)
	w.partition("a", 40, w.record(0), w.record(10), w.record(11), setHeader(w.record(12), "ce_type", enrolled), w.record(13),
		w.record(5), w.record(14)) // 5 came late
	broken, unnamed, none := w.record(15), w.record(16), w.record(17)
	broken.Value = broken.Value[:9]
	setHeader(unnamed, "ce_id", "")
	none.Headers = nil
	w.partition("a", 0, w.record(20), broken, unnamed, none, w.record(21), w.record(59), w.record(60), w.record(61))
	w.partition("b", 7, w.record(22), w.record(23))
	w.put(10, delivery.Pending, "x")
	w.put(11, delivery.Leased, "x")
	w.put(13, delivery.Delivered, "")
	w.put(14, delivery.Dead, "x")
	w.put(20, delivery.Dead, "")
	w.put(21, delivery.Halted, "x")
	w.absent = []string{"c"}
	return w
}

func choice(w *world) Choice {
	return Choice{Rule: w.rule(), Since: began.Add(10 * time.Minute), Until: began.Add(time.Hour)}
}

func TestFromTopics(t *testing.T) {
	t.Parallel()
	for _, apply := range []bool{false, true} {
		w := full(t)
		report, err := w.replayer(apply, false).FromTopics(t.Context(), choice(w))
		if err != nil {
			t.Fatal(err)
		}
		want(t, "counts", counts(&report.Counts), "3 2 2 1 1 0")
		want(t, "records", report.Records, 13)
		want(t, "matched", report.Matched, 9)
		want(t, "undecodable", fmt.Sprint(report.Undecodable), "map[corrupt:1 no_id:1 no_type:1]")
		want(t, "absent", fmt.Sprint(report.Absent), "[c]")
		all, read := report.Offsets()
		want(t, "offsets", fmt.Sprint(all, read), "16 16")
		want(t, "since", w.asked[0], began.Add(10*time.Minute))
		if !apply {
			want(t, "rows written by a dry run", len(w.written), 0)
			want(t, "state after a dry run", w.rows[idOf(14)].state, delivery.Dead)
			continue
		}
		var got []delivery.ID
		for _, in := range w.written {
			got = append(got, in.ID)
			want(t, "row", fmt.Sprintf("%s %s %s %d %d", in.State, in.Reason, in.Delay, in.RuleID, in.Attempts), "pending replay 0s 1 0")
			if !strings.Contains(string(in.Body), `"event_metadata"`) {
				t.Errorf("body %s", in.Body)
			}
		}
		if !slices.Equal(got, []delivery.ID{idOf(59), idOf(22), idOf(23)}) {
			t.Errorf("inserted %v", got)
		}
		for n, state := range map[int]delivery.State{
			10: delivery.Pending, 11: delivery.Leased, 13: delivery.Delivered, 14: delivery.Pending, 20: delivery.Pending, 21: delivery.Halted,
		} {
			want(t, fmt.Sprintf("state of %d", n), w.rows[idOf(n)].state, state)
		}
		if !strings.Contains(string(w.rows[idOf(20)].body), `"event_metadata"`) || string(w.rows[idOf(14)].body) != "x" {
			t.Error("the bodies of dead rows are wrong")
		}
		// The oldest record of a partition is reported if older ones are lost and none before the
		// range is left.
		want(t, "oldest", report.Parts[0].Oldest.IsZero() && report.Parts[1].Oldest.IsZero(), true)
		want(t, "oldest of b", report.Parts[2].Oldest, began.Add(22*time.Minute))
		// Doing it again makes nothing new.
		if report, err = w.replayer(true, false).FromTopics(t.Context(), choice(w)); err != nil {
			t.Fatal(err)
		}
		want(t, "counts of the second time", counts(&report.Counts), "0 0 7 1 1 0")
		want(t, "rows", len(w.written), 3)
	}
}

// With * a record without a type is not an event. New ids ignore existing rows and are the same
// within a run.
func TestFromTopicsUnderNewIDs(t *testing.T) {
	t.Parallel()
	w := full(t)
	c := choice(w)
	c.Renew = true
	for _, apply := range []bool{false, true} {
		report, err := w.replayer(apply, true).FromTopics(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		want(t, "counts", counts(&report.Counts), "9 0 0 0 0 0")
		want(t, "undecodable", fmt.Sprint(report.Undecodable), "map[corrupt:1 no_id:1]")
	}
	for _, n := range []int{10, 11, 13, 14, 20, 21, 59, 22, 23} {
		if w.rows[delivery.Renew(idOf(n), delivery.Run{1})] == nil {
			t.Errorf("event %d has no row", n)
		}
	}
	report, err := w.replayer(true, true).FromTopics(t.Context(), c) // the same run
	if err != nil {
		t.Fatal(err)
	}
	want(t, "counts of the same run again", counts(&report.Counts), "0 0 9 0 0 0")
}

// An event that stands in the topics twice makes one row, in one batch or in two.
func TestFromTopicsRepeatedEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.partition("a", 0, w.record(1), w.record(1), w.record(2))
	var many []*bus.Record
	for range 2 * batchRows {
		many = append(many, w.record(3))
	}
	w.partition("b", 0, append(many, w.record(1))...)
	report, err := w.replayer(true, false).FromTopics(t.Context(), Choice{Rule: w.rule(), Since: began})
	if err != nil {
		t.Fatal(err)
	}
	want(t, "rows", len(w.written), 3)
	want(t, "counts", counts(&report.Counts), fmt.Sprintf("3 0 %d 0 0 0", 1+2*batchRows))
}

// A database that fails for some seconds loses nothing, and what was half written is not counted
// twice.
func TestFromTopicsSurvivesTheDatabase(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := full(t)
		broken := errors.New("connection lost")
		w.failRows = []error{broken, broken, nil, broken, nil, broken, nil, nil, broken}
		report, err := w.replayer(true, false).FromTopics(t.Context(), choice(w))
		if err != nil {
			t.Fatal(err)
		}
		want(t, "counts", counts(&report.Counts), "3 2 2 1 1 0")
		want(t, "faults left", len(w.failRows), 0)
	})
}

// One that stays away ends the run, which says how far it came.
func TestFromTopicsGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.partition("a", 0, w.record(1), w.record(2))
		w.partition("a", 10, w.record(3), w.record(4), w.record(5))
		broken := errors.New("connection lost")
		w.failRows = []error{nil, nil} // the first partition's
		for range maxTries {
			w.failRows = append(w.failRows, broken)
		}
		start := time.Now()
		report, err := w.replayer(true, false).FromTopics(t.Context(), Choice{Rule: w.rule(), Since: began})
		if !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
		const waits = 6300 * time.Millisecond // between the tries, each ±50 %
		if took := time.Since(start); took < waits/2 || took > waits*3/2 {
			t.Errorf("gave up after %s", took)
		}
		want(t, "counts", counts(&report.Counts), "2 0 0 0 0 0")
		all, read := report.Offsets()
		want(t, "offsets", fmt.Sprint(all, read), "5 2")
	})
}

func TestFromTopicsStops(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var many []*bus.Record
	for n := range 3 * batchRows {
		many = append(many, w.record(n))
	}
	w.partition("a", 0, many...)
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	report, err := w.replayer(true, false).FromTopics(ctx, Choice{Rule: w.rule(), Since: began, Progress: func(report *Report) {
		calls++
		all, read := report.Offsets()
		want(t, "progress", fmt.Sprint(report.Inserted, all, read), fmt.Sprint(2*batchRows, 3*batchRows, 2*batchRows))
		cancel()
	}})
	if !errors.Is(err, context.Canceled) || calls != 1 {
		t.Errorf("got %v after %d calls", err, calls)
	}
	want(t, "counts", counts(&report.Counts), fmt.Sprintf("%d 0 0 0 0 0", 2*batchRows))
	_, read := report.Offsets()
	want(t, "read", read, 2*batchRows)
	want(t, "rows", len(w.written), 2*batchRows)
}

func TestFromTopicsTooLarge(t *testing.T) {
	t.Parallel()
	w := full(t)
	w.maxBody = 10
	report, err := w.replayer(true, false).FromTopics(t.Context(), choice(w))
	if err != nil {
		t.Fatal(err)
	}
	want(t, "counts", counts(&report.Counts), "0 2 2 1 1 3")
	want(t, "named", len(report.UnfitIDs), 3)
	want(t, "total", report.Total(), 9)
}

// A registry that does not answer ends the run soon and says what to do. A schema that it lacks is
// one reason among others.
func TestFromTopicsRegistry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		unknown := func(n int) *bus.Record {
			rec := w.record(n)
			rec.Value[4] = 99
			return rec
		}
		w.partition("a", 0, w.record(1), unknown(2), unknown(3), w.record(4), w.record(5))
		start := time.Now()
		report, err := w.replayer(true, false).FromTopics(t.Context(), Choice{Rule: w.rule(), Since: began})
		if err != nil {
			t.Fatal(err)
		}
		want(t, "undecodable", report.Undecodable[decode.ReasonUnknownSchema], 2)
		want(t, "inserted", report.Inserted, 3)
		want(t, "patience", time.Since(start), confluent.Patience)
		want(t, "questions", w.registry.asked, 2)
		w.registry.away = errors.New("schema registry http://registry: refused")
		_, err = w.replayer(true, false).FromTopics(t.Context(), Choice{Rule: w.rule(), Since: began})
		var away *confluent.UnreachableError
		if !errors.As(err, &away) || !errors.Is(err, w.registry.away) || !strings.Contains(err.Error(), "EVENT_BUS_KAFKA_SCHEMA_REGISTRY_URL") ||
			!strings.Contains(err.Error(), "a, partition 0, offset 0") {
			t.Errorf("got %v", err)
		}
	})
}

func TestOptions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := Options{Log: w, Decoder: w.decoder(w.registry), Rows: w, Records: w, Run: delivery.Run{1}}
	for name, change := range map[string]func(*Options){
		"log reader": func(o *Options) { o.Log = nil }, "decoder": func(o *Options) { o.Decoder = nil },
		"rows":    func(o *Options) { o.Rows = nil },
		"records": func(o *Options) { o.Records = nil }, "run": func(o *Options) { o.Run = delivery.Run{} },
	} {
		bad := good
		change(&bad)
		if _, err := New(bad); err == nil {
			t.Errorf("without %s: accepted", name)
		}
	}
}
