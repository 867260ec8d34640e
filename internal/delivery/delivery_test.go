package delivery_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

var created = time.Date(2026, 3, 1, 9, 30, 15, 123456000, time.UTC)

// TestIDIsFixed holds the bytes that receivers recognise repeats by: they may never change. The
// value was computed apart from this code, with Python:
//
//	b = lambda s: len(s.encode()).to_bytes(4, "big") + s.encode()
//	"msg_" + hashlib.sha256(b"".join(map(b, parts))).digest()[:16].hex()
func TestIDIsFixed(t *testing.T) {
	t.Parallel()
	id := delivery.NewID("openedx/lms/web", "457f0c26-a1a5-11ed-afe6-0242ac140007", "org.openedx.learning.course.enrollment.created.v1",
		delivery.KindWebhook, 7, created)
	if got, want := id.String(), "msg_18613276a33d25471e890b5c9a32db51"; got != want {
		t.Errorf("id = %s, want %s", got, want)
	}
	elsewhere := delivery.NewID("openedx/lms/web", "457f0c26-a1a5-11ed-afe6-0242ac140007", "org.openedx.learning.course.enrollment.created.v1",
		delivery.KindWebhook, 7, created.In(time.FixedZone("x", 3600)))
	if elsewhere != id {
		t.Error("the id depends on the time zone that created is given in")
	}
}

func TestIDDependsOnEveryPart(t *testing.T) {
	t.Parallel()
	type parts struct {
		source, id, typ string
		kind            delivery.Kind
		rule            int32
		created         time.Time
	}
	seen := map[delivery.ID]parts{}
	for _, p := range []parts{
		{"s", "i", "t", 1, 1, created},
		{"si", "", "t", 1, 1, created}, // the same text, cut elsewhere
		{"s", "it", "", 1, 1, created},
		{"s", "i", "t", 2, 1, created},
		{"s", "i", "t", 1, 11, created},
		{"s", "i", "t", 1, 1, created.Add(time.Microsecond)},
	} {
		id := delivery.NewID(p.source, p.id, p.typ, p.kind, p.rule, p.created)
		if other, ok := seen[id]; ok {
			t.Errorf("%+v and %+v have the same id", p, other)
		}
		seen[id] = p
	}
}

func TestParseID(t *testing.T) {
	t.Parallel()
	id := delivery.NewID("s", "i", "t", 1, 1, created)
	for _, s := range []string{id.String(), strings.TrimPrefix(id.String(), "msg_")} {
		if got, err := delivery.ParseID(s); err != nil || got != id {
			t.Errorf("ParseID(%q) = %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "msg_", "msg_zz", id.String() + "00", "msg_" + id.String()} {
		if _, err := delivery.ParseID(s); err == nil {
			t.Errorf("ParseID(%q) succeeded", s)
		}
	}
}

func TestTransitions(t *testing.T) {
	t.Parallel()
	d := delivery.Delivery{ID: delivery.ID{1}, Kind: delivery.KindWebhook, RuleID: 3, Body: []byte("{}")}
	token := delivery.Token{9}
	row := delivery.Row{
		Delivery: d, Token: token, State: delivery.Leased, Claims: 3, Attempts: 2, Reason: delivery.ReasonStatus, LastStatus: 500,
	}
	counted := delivery.Decision{State: delivery.Pending, Delay: time.Minute, Attempts: 3, Counted: true, Reason: delivery.ReasonStatus}
	putOff := delivery.Decision{State: delivery.Pending, Delay: time.Minute, Attempts: 2, Reason: delivery.ReasonRetryAfter}

	for _, tc := range []struct {
		name      string
		got, want any
	}{
		{
			"hand-off is leased and counts as a claim", delivery.HandOff(&d, token, time.Minute, delivery.ReasonHandOff),
			delivery.Insert{Delivery: d, State: delivery.Leased, Delay: time.Minute, Token: token, Claims: 1, Reason: delivery.ReasonHandOff},
		},
		{
			"park", delivery.Enqueue(&d, counted, 500),
			delivery.Insert{
				Delivery: d, State: delivery.Pending, Delay: time.Minute, Attempts: 3, Claims: 3, Reason: delivery.ReasonStatus, LastStatus: 500,
			},
		},
		{
			"queue", delivery.Queue(&d, time.Second, delivery.ReasonSpill),
			delivery.Insert{Delivery: d, State: delivery.Pending, Delay: time.Second, Reason: delivery.ReasonSpill},
		},
		{
			"settle", delivery.Settle(&row, counted, 502),
			delivery.Update{
				ID: d.ID, Token: token, State: delivery.Pending, Delay: time.Minute, Attempts: 3, Claims: 3,
				Reason: delivery.ReasonStatus, LastStatus: 502,
			},
		},
		{
			"settle gives the claim of an attempt that does not count back", delivery.Settle(&row, putOff, 429),
			delivery.Update{
				ID: d.ID, Token: token, State: delivery.Pending, Delay: time.Minute, Attempts: 2, Claims: 2,
				Reason: delivery.ReasonRetryAfter, LastStatus: 429,
			},
		},
		{
			"return", delivery.Return(&row, 0),
			delivery.Update{ID: d.ID, Token: token, State: delivery.Pending, Attempts: 2, Claims: 2, Reason: delivery.ReasonStatus, LastStatus: 500},
		},
		{
			"abort", delivery.Abort(&row),
			delivery.Update{ID: d.ID, Token: token, State: delivery.Dead, Attempts: 2, Claims: 3, Reason: delivery.ReasonCrashLoop, LastStatus: 500},
		},
	} {
		if !reflect.DeepEqual(tc.got, tc.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", tc.name, tc.got, tc.want)
		}
	}

	buried := delivery.DeadLetter(&d, 1, 413)
	if buried.State != delivery.Dead || buried.Body != nil || buried.Reason != delivery.ReasonTooLarge || buried.LastStatus != 413 {
		t.Errorf("bury: %+v", buried)
	}
	if d.Body == nil {
		t.Error("bury took the body of the delivery itself")
	}
}

func TestCrashLoop(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		claims, attempts int
		want             bool
	}{{1, 0, false}, {5, 0, false}, {6, 0, true}, {10, 9, false}, {15, 9, true}} {
		r := delivery.Row{Claims: tc.claims, Attempts: tc.attempts}
		if got := r.CrashLoops(); got != tc.want {
			t.Errorf("%d claims, %d attempts: %v, want %v", tc.claims, tc.attempts, got, tc.want)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for state, want := range map[delivery.State]string{0: "pending", 1: "leased", 2: "delivered", 3: "dead", 4: "halted", 9: "state(9)"} {
		if state.String() != want {
			t.Errorf("state %d is called %s, want %s", state, state, want)
		}
	}
	for kind, want := range map[delivery.Kind]string{1: "webhook", 2: "event", 3: "inbox", 9: "kind(9)"} {
		if kind.String() != want {
			t.Errorf("kind %d is called %s, want %s", kind, kind, want)
		}
	}
	for state, want := range map[delivery.State]bool{
		delivery.Pending: false, delivery.Leased: false, delivery.Delivered: true, delivery.Dead: true, delivery.Halted: true,
	} {
		if state.Ended() != want {
			t.Errorf("%s ended: %v, want %v", state, state.Ended(), want)
		}
	}
	for n, state := range delivery.States() {
		if got, err := delivery.ParseState(state.String()); err != nil || got != state || int(state) != n {
			t.Errorf("state %d is read back as %d: %v", n, got, err)
		}
	}
	for _, wrong := range []string{"", "Dead", "state(9)"} {
		if _, err := delivery.ParseState(wrong); err == nil {
			t.Errorf("%q was read as a state", wrong)
		}
	}
}
