package dispatch

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

func TestPace(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		limit  int
		events string // t: taken, h: hung, r: restarted
		want   []int  // places after each, the beginning first
	}{
		{"begins with few, and grows to its limit", 10, "tttt", []int{8, 9, 10, 10, 10}},
		{"half for each that hangs, to the least", 64, "hhh", []int{8, 4, 4, 4}},
		{"half of many", 64, "tthht", []int{8, 9, 10, 5, 4, 5}},
		{"a limit below the first places", 3, "thhtr", []int{3, 3, 3, 3, 3, 3}},
		{"a limit of one", 1, "hthr", []int{1, 1, 1, 1, 1}},
		{"after the breaker has closed", 64, "ttrt", []int{8, 9, 10, 4, 5}},
	} {
		p := newPace(tc.limit)
		got := []int{p.places()}
		for _, e := range tc.events {
			switch e {
			case 't':
				p.taken()
			case 'h':
				p.hung()
			case 'r':
				p.restart()
			}
			got = append(got, p.places())
		}
		for i := range got {
			if got[i] != tc.want[i] {
				t.Errorf("%s: places %v, want %v", tc.name, got, tc.want)
				break
			}
		}
	}
}

func TestPaceFollowsTheLimit(t *testing.T) {
	t.Parallel()
	p := newPace(64)
	for range 100 {
		p.taken()
	}
	if got := p.places(); got != 64 {
		t.Errorf("%d places after 100 deliveries, want the limit", got)
	}
	p.limit = 10
	if got := p.places(); got != 10 {
		t.Errorf("%d places with the limit lowered to 10", got)
	}
	p.hung()
	if got := p.places(); got != 5 {
		t.Errorf("%d places, want half of those that the limit leaves", got)
	}
	p.limit = 6
	p.taken()
	p.taken()
	if got := p.places(); got != 6 {
		t.Errorf("%d places, want the limit", got)
	}
}

// The breaker as a table of what it is told.
func TestBreaker(t *testing.T) {
	t.Parallel()
	fails := "ffffffffff"
	for _, tc := range []struct {
		name string
		// f: 600 ms pass, and a request fails; q, w, n: one fails at once, works, says nothing;
		// o: 600 ms pass, and one that began at the beginning fails; O: it works; s: 12 seconds pass;
		// p: a request begins and stays under way; F, W, N: it fails, works, says nothing
		events string
		want   string // the states that it went through, of C, O, H
	}{
		{"nine failures", fails[1:], "C"},
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
				names := map[gobreaker.State]string{gobreaker.StateClosed: "C", gobreaker.StateOpen: "O", gobreaker.StateHalfOpen: "H"}
				went := "C"
				b := newBreaker(func(_, to gobreaker.State) { went += names[to] })
				var old, probe flight
				b.begin(&old)
				once := func(s delivery.Sign) {
					var f flight
					b.begin(&f)
					b.note(&f, s, time.Now())
					b.end(&f)
				}
				for _, e := range tc.events {
					switch e {
					case 'f':
						<-time.After(600 * time.Millisecond)
						once(delivery.SignFails)
					case 'h': // hangs until its timeout, as do those beside it
						var f flight
						b.begin(&f)
						b.note(&f, delivery.SignFails, time.Now().Add(-10*time.Second))
						b.end(&f)
					case 'q':
						once(delivery.SignFails)
					case 'w':
						once(delivery.SignWorks)
					case 'n':
						var f flight
						b.begin(&f)
						b.end(&f) // not even sent
					case 'o':
						<-time.After(600 * time.Millisecond)
						b.note(&old, delivery.SignFails, time.Now())
					case 'O':
						b.note(&old, delivery.SignWorks, time.Now())
					case 's':
						<-time.After(12 * time.Second)
						b.look()
					case 'p':
						b.begin(&probe)
					case 'F':
						b.note(&probe, delivery.SignFails, time.Now())
					case 'W':
						b.note(&probe, delivery.SignWorks, time.Now())
					case 'N':
						b.end(&probe)
					}
				}
				if went != tc.want {
					t.Errorf("went through %s, want %s", went, tc.want)
				}
			})
		})
	}
}

func TestBucket(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b bucket
		drain := func() (n int) {
			for ; b.ready(time.Now()) && n < 1000; n++ {
				b.take(time.Now())
			}
			return n
		}
		if n := drain(); n != 1000 {
			t.Errorf("%d tokens without a rate, want as many as anybody asks for", n)
		}
		for _, tc := range []struct {
			rate  float64
			burst int
		}{{0.1, 1}, {1, 1}, {1.5, 2}, {20, 20}} {
			b.set(tc.rate)
			if n := drain(); n != tc.burst {
				t.Errorf("%v a second: %d at once, want %d", tc.rate, n, tc.burst)
			}
			b.set(tc.rate)
			if n := drain(); n != 0 {
				t.Errorf("%v a second: setting the same rate gave %d tokens", tc.rate, n)
			}
			var refilled atomic.Pointer[time.Time]
			began := time.Now()
			for range 3 { // one timer, however often it is asked for
				b.arm(began, func() { refilled.Store(new(time.Now())) })
			}
			<-time.After(time.Minute)
			want := time.Duration(float64(time.Second) / tc.rate)
			if got := refilled.Load().Sub(began); got < want || got > want+2*time.Millisecond {
				t.Errorf("%v a second: the next token after %v, want %v", tc.rate, got, want)
			}
			b.armed = false
		}
		b.set(4)
		drain()
		if n := b.within(time.Now(), 10*time.Second); n != 40 {
			t.Errorf("%d within ten seconds at four a second, want 40", n)
		}
		b.set(0)
		if n := drain(); n != 1000 {
			t.Errorf("%d tokens after the rate was taken away", n)
		}
	})
}
