package breaker

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// The breaker as a table of what it is told.
func TestBreaker(t *testing.T) {
	t.Parallel()
	fails := "ffffffffff"
	for _, tc := range []struct {
		name string
		// f: 600 ms pass, and a request fails; q, w, n: one fails at once, works, says nothing; o:
		// 600 ms pass, and one that began at the beginning fails; O: it works; s: 12 seconds pass;
		// p: a request begins and stays under way; F, W, N: it fails, works, says nothing
		events string
		want   string // the states that it went through, of C, O, H
	}{
		{"nine failures in 4.8 s", fails[1:], "C"},
		{"ten, when the time is over", fails, "CO"},
		{"a burst", strings.Repeat("q", 64), "C"},
		{"a burst and a success", strings.Repeat("q", 64) + "w" + fails[1:], "C"},
		{"a burst and more failures", strings.Repeat("q", 64) + "fffffffff", "CO"},
		{"a burst long after a failure and a success", "fsw" + "qqqqqqqqqq", "C"},
		{"a burst after it has closed", fails + "sw" + "qqqqqqqqqq", "COHC"},
		{"few failures over long", "fs" + "qqqqqq", "C"},
		{"the eighth at last", "fs" + "qqqqqqq", "CO"},
		{"a success between", "fffffwfffff", "C"},
		{"ten after a success", "fffffw" + fails, "CO"},
		{"requests that say nothing between", "fffffnnnfffff", "CO"},
		{"half-open after its time", fails + "s", "COH"},
		{"one success closes", fails + "sw", "COHC"},
		{"and it counts from nothing", fails + "sw" + fails[1:], "COHC"},
		{"and opens again", fails + "sw" + fails, "COHCO"},
		{"as many places as a lane begins with, all of which hang", "hhhhhhhh", "CO"},
		{"one less", "hhhhhhh", "C"},
		{"one that hung while others worked, and a burst", "whqqqqqqq", "C"},
		{"one failure opens", fails + "sf", "COHO"},
		{"again and again", fails + "sfsfsw", "COHOHOHC"},
		{"a probe that says nothing leaves room for the next", fails + "snnnw", "COHC"},
		{"what began before says nothing while open", fails + "Oo", "CO"},
		{"nor while half-open", fails + "sOo", "COH"},
		{"nor after it has closed", fails + "sw" + "oooooooooooo", "COHC"},
		{"nor while a probe is under way", fails + "spooOOF", "COHO"},
		{"a probe that works at last", fails + "spooW", "COHC"},
		{"a probe that comes to nothing", fails + "spNspW", "COHC"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				names := map[State]string{Closed: "C", Open: "O", HalfOpen: "H"}
				went := "C"
				b := New(func(_, to State) { went += names[to] })
				var old, probe Request
				b.Begin(&old)
				once := func(s delivery.Signal) {
					var r Request
					b.Begin(&r)
					b.Note(&r, s, time.Now())
					b.End(&r)
				}
				for _, e := range tc.events {
					switch e {
					case 'f':
						<-time.After(600 * time.Millisecond)
						once(delivery.SignalUnhealthy)
					case 'h': // hangs until its timeout, as do those beside it
						var r Request
						b.Begin(&r)
						b.Note(&r, delivery.SignalUnhealthy, time.Now().Add(-10*time.Second))
						b.End(&r)
					case 'q':
						once(delivery.SignalUnhealthy)
					case 'w':
						once(delivery.SignalHealthy)
					case 'n':
						var r Request
						b.Begin(&r)
						b.End(&r) // not even sent
					case 'o':
						<-time.After(600 * time.Millisecond)
						b.Note(&old, delivery.SignalUnhealthy, time.Now())
					case 'O':
						b.Note(&old, delivery.SignalHealthy, time.Now())
					case 's':
						<-time.After(12 * time.Second)
						b.Look()
					case 'p':
						b.Begin(&probe)
					case 'F':
						b.Note(&probe, delivery.SignalUnhealthy, time.Now())
					case 'W':
						b.Note(&probe, delivery.SignalHealthy, time.Now())
					case 'N':
						b.End(&probe)
					}
				}
				if went != tc.want {
					t.Errorf("went through %s, want %s", went, tc.want)
				}
			})
		})
	}
}
