package dispatch

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestLimit(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		limit  int
		events string // t: taken, h: hung, r: restarted
		want   []int  // the limit after each, the beginning first
	}{
		{"begins low, and rises to the rule's", 10, "tttt", []int{8, 9, 10, 10, 10}},
		{"half for each that hangs, to the least", 64, "hhh", []int{8, 4, 4, 4}},
		{"half of many", 64, "tthht", []int{8, 9, 10, 5, 4, 5}},
		{"a rule's limit below the first", 3, "thhtr", []int{3, 3, 3, 3, 3, 3}},
		{"a limit of one", 1, "hthr", []int{1, 1, 1, 1, 1}},
		{"after the breaker has closed", 64, "ttrt", []int{8, 9, 10, 4, 5}},
	} {
		p := newLimit(tc.limit)
		got := []int{p.now()}
		for _, e := range tc.events {
			switch e {
			case 't':
				p.raise()
			case 'h':
				p.lower()
			case 'r':
				p.restart()
			}
			got = append(got, p.now())
		}
		for i := range got {
			if got[i] != tc.want[i] {
				t.Errorf("%s: limits %v, want %v", tc.name, got, tc.want)
				break
			}
		}
	}
}

func TestLimitFollowsTheRule(t *testing.T) {
	t.Parallel()
	p := newLimit(64)
	for range 100 {
		p.raise()
	}
	if got := p.now(); got != 64 {
		t.Errorf("a limit of %d after 100 deliveries, want the rule's", got)
	}
	p.most = 10
	if got := p.now(); got != 10 {
		t.Errorf("a limit of %d with the rule's lowered to 10", got)
	}
	p.lower()
	if got := p.now(); got != 5 {
		t.Errorf("a limit of %d, want half of what the rule's leaves", got)
	}
	p.most = 6
	p.raise()
	p.raise()
	if got := p.now(); got != 6 {
		t.Errorf("a limit of %d, want the rule's", got)
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
