package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// numbersOf returns the numbers that rows were made from, in their order.
func numbersOf(rows []store.Summary) string {
	numbers := make([]int, len(rows))
	for i := range rows {
		_, err := fmt.Sscanf(rows[i].EventID, "event-%d", &numbers[i])
		if err != nil {
			numbers[i] = -1
		}
	}
	return fmt.Sprint(numbers)
}

func listFilters(t *testing.T, b *bench) {
	inbox, other := pending(6, 1), dead(7, 2)
	inbox.Kind, other.EventType = delivery.KindInbox, "org.openedx.other.v1"
	b.insert(t, pending(1, 1), pending(2, 2), dead(3, 1), dead(4, 2), pending(5, 3), inbox, other)
	b.claim(t, 3, 1, time.Hour, tokenOf(1))
	base := time.Date(2026, 1, 2, 3, 4, 0, 123_000_000, time.UTC)
	for n := 1; n <= 7; n++ {
		id := idOf(n)
		mustExec(t, b.admin, "UPDATE webhook_dispatcher_delivery SET updated_at = ? WHERE webhook_id = ?",
			base.Add(time.Duration(n)*time.Minute), id[:])
	}
	rule := lane(1)
	for _, c := range []struct {
		name string
		f    store.Selection
		want string
	}{
		{"all", store.Selection{}, "[7 6 5 4 3 2 1]"},
		{"one state", store.Selection{States: []delivery.State{delivery.Dead}}, "[7 4 3]"},
		{"two states", store.Selection{States: []delivery.State{delivery.Dead, delivery.Leased}}, "[7 5 4 3]"},
		{"a state without rows", store.Selection{States: []delivery.State{delivery.Halted}}, "[]"},
		{"rule, of its kind only", store.Selection{Lane: &rule}, "[3 1]"},
		{"event type", store.Selection{EventType: "org.openedx.other.v1"}, "[7]"},
		{"event type in other letters", store.Selection{EventType: "org.openedx.OTHER.v1"}, "[]"},
		{"event type that is no text", store.Selection{EventType: "\xff'\\"}, "[]"},
		{"since, included", store.Selection{Since: base.Add(5 * time.Minute)}, "[7 6 5]"},
		{"until, not included", store.Selection{Until: base.Add(3 * time.Minute)}, "[2 1]"},
		{
			"times of another zone", store.Selection{
				Since: base.Add(2 * time.Minute).In(time.FixedZone("", 3600)), Until: base.Add(4*time.Minute + time.Millisecond),
			}, "[4 3 2]",
		},
		{"all at once", store.Selection{
			States: []delivery.State{delivery.Dead}, Lane: &rule, EventType: "org.openedx.test.v1", Since: base, Until: base.Add(time.Hour),
		}, "[3]"},
	} {
		got, more, err := b.store.List(t.Context(), c.f, 10)
		must(t, err)
		want(t, c.name, numbersOf(got), c.want)
		want(t, c.name+": more", more, false)
	}
}

func listLimit(t *testing.T, b *bench) {
	b.insert(t, append(pendings(0, 4), dead(4, 1), dead(5, 1))...)
	mustExec(t, b.admin, "UPDATE webhook_dispatcher_delivery SET updated_at = '2026-01-02 03:04:05.678'") // the number decides then
	all, _, err := b.store.List(t.Context(), store.Selection{}, 100)
	must(t, err)
	for i := 1; i < len(all); i++ {
		want(t, "falling numbers", all[i-1].RowID > all[i].RowID, true)
	}
	for limit, more := range map[int]bool{1: true, 5: true, 6: false, 7: false} {
		got, gotMore, err := b.store.List(t.Context(), store.Selection{}, limit)
		must(t, err)
		want(t, fmt.Sprintf("more than %d", limit), gotMore, more)
		want(t, "rows", numbersOf(got), numbersOf(all[:min(limit, 6)]))
	}
	if _, _, err := b.store.List(t.Context(), store.Selection{}, 0); err == nil {
		t.Error("a limit of 0 was accepted")
	}
}

// listOne: a summary is the row, but for its body.
func listOne(t *testing.T, b *bench) {
	b.insert(t, dead(1, 4), pending(2, 1))
	whole := b.get(t, idOf(1))
	wantRow := whole
	wantRow.Body = nil
	for name, find := range map[string]func() (store.Summary, bool, error){
		"by id":     func() (store.Summary, bool, error) { return b.store.Summary(t.Context(), idOf(1)) },
		"by number": func() (store.Summary, bool, error) { return b.store.SummaryOfRow(t.Context(), whole.RowID) },
	} {
		got, found, err := find()
		must(t, err)
		want(t, name+": found", found, true)
		want(t, name, fmt.Sprintf("%+v", got.Row), fmt.Sprintf("%+v", wantRow))
		want(t, name+": size", got.BodySize, int64(len(whole.Body)))
	}
	_, found, err := b.store.Summary(t.Context(), idOf(3))
	must(t, err)
	_, foundRow, err := b.store.SummaryOfRow(t.Context(), 1<<63)
	must(t, err)
	want(t, "what is not there", found || foundRow, false)
}

func listUndecodable(t *testing.T, b *bench) {
	for n, reason := range []string{"bad_magic", "corrupt", "corrupt", "corrupt"} {
		must(t, b.store.InsertUndecodable(t.Context(), store.Undecodable{
			Topic: "t", Partition: 3, Offset: int64(n), Time: eventTime, Reason: reason, Value: []byte("\x00\xff value"),
			Headers: []bus.Header{{Key: "ce_id", Value: []byte("\xfe")}},
		}))
	}
	for _, c := range []struct {
		reason string
		limit  int
		want   string
		more   bool
	}{
		{"", 10, "[3 2 1 0]", false},
		{"", 2, "[3 2]", true},
		{"corrupt", 3, "[3 2 1]", false},
		{"corrupt", 2, "[3 2]", true},
		{"bad_magic", 2, "[0]", false},
		{"é", 2, "[]", false},
	} {
		got, more, err := b.store.ListUndecodable(t.Context(), c.reason, c.limit)
		must(t, err)
		offsets := make([]int64, len(got))
		for i := range got {
			offsets[i] = got[i].Offset
		}
		want(t, "records of "+c.reason, fmt.Sprint(offsets), c.want)
		want(t, "more of "+c.reason, more, c.more)
	}
	if _, _, err := b.store.ListUndecodable(t.Context(), "", 0); err == nil {
		t.Error("a limit of 0 was accepted")
	}
	listed, _, err := b.store.ListUndecodable(t.Context(), "bad_magic", 1)
	must(t, err)
	whole, found, err := b.store.UndecodableRow(t.Context(), listed[0].RowID)
	must(t, err)
	want(t, "found", found, true)
	want(t, "headers", fmt.Sprintf("%q", whole.Headers), `[{"ce_id" "\xfe"}]`)
	want(t, "key and value", fmt.Sprintf("%v %q", whole.Key == nil, whole.Value), `true "\x00\xff value"`)
	whole.Headers, whole.Value = nil, nil
	want(t, "the rest", fmt.Sprintf("%+v", whole), fmt.Sprintf("%+v", listed[0]))
	want(t, "size", whole.ValueSize, 8)
	_, found, err = b.store.UndecodableRow(t.Context(), 1<<40)
	must(t, err)
	want(t, "what is not there", found, false)
}
