package inflight

import (
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// Each way through the life of a first try, as a word of its events: b begins, w waits again, a is abandoned, q and l hand off
// (queued, leased), f and k finish (k: the row is kept), ? and ! ask whether the row is wanted (!: the event was dropped), s is stored.
// What comes of each event follows it: + or - for yes or no; y, u or r for a result that is yours, under the lease, or later; o where
// the first try is over; R where the result is returned.
func TestCell(t *testing.T) {
	t.Parallel()
	for name, life := range map[string]string{
		"a result without a hand-off":          "b+ fy l- q- a-",
		"a hand-off while it runs":             "b+ q- l+ l- ?+ s fu",
		"a result that overtakes the row":      "b+ l+ fr ?-Ro ?- ",
		"a result that loses against the row":  "b+ l+ ?+ fr sR",
		"a result that keeps its row":          "b+ l+ kr ?+ ?+ sR",
		"a hand-off before it runs":            "q+ b- w- ?+ s",
		"a leased hand-off before it runs":     "l+ b- ?+ s fu",
		"it waits again":                       "b+ w+ w- a+ b- l-",
		"it waits again, and is handed off":    "b+ w+ q+ ?+ s l-",
		"dropped while the row is on its way":  "b+ l+ !-o ?- fr",
		"dropped with a result":                "b+ l+ fr !-o !-",
		"dropped with a result that keeps":     "b+ l+ kr !-o",
		"handed off, then dropped, and stored": "b+ l+ ?+ s !+ fu",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var c Cell[int]
			got := ""
			yes := func(ok bool) string {
				if ok {
					return "+"
				}
				return "-"
			}
			result := 7
			for _, e := range life {
				switch e {
				case 'b':
					got += "b" + yes(c.Begin(time.Second))
				case 'w':
					got += "w" + yes(c.WaitAgain())
				case 'a':
					got += "a" + yes(c.Abandon())
				case 'q':
					got += "q" + yes(c.Queue())
				case 'l':
					in, ok := c.Lease(&delivery.Delivery{RuleID: 3}, 0, delivery.ReasonHandOff)
					if ok && (in.RuleID != 3 || in.State != delivery.Leased || in.Token == delivery.Token{} || in.Delay != time.Minute) {
						t.Errorf("insert %+v", in)
					}
					got += "l" + yes(ok)
				case 'f', 'k':
					got += string(e) + map[Fate]string{Yours: "y", Leased: "u", Later: "r"}[c.Finish(&result, e == 'k')]
				case '?', '!':
					wanted, r, over := c.Wanted(e == '!')
					got += string(e) + yes(wanted)
					if r != nil {
						got += "R"
					}
					if over {
						got += "o"
					}
				case 's':
					got += "s"
					if c.Stored() != nil {
						got += "R"
					}
				case ' ':
					got += " "
				}
			}
			if got != life {
				t.Errorf("got  %s\nwant %s", got, life)
			}
		})
	}
}

func TestLeaseLastsForTheLongestRun(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ begun, given time.Duration }{{10 * time.Minute, time.Second}, {time.Second, 10 * time.Minute}} {
		var c Cell[int]
		c.Begin(tc.begun)
		if row, _ := c.Row(); row != nil {
			t.Error("a row before the hand-off")
		}
		in, ok := c.Lease(&delivery.Delivery{}, tc.given, delivery.ReasonDrain)
		if want := delivery.Lease(10 * time.Minute); !ok || in.Delay != want {
			t.Errorf("leased for %v, want %v", in.Delay, want)
		}
		if row, _ := c.Row(); row != nil {
			t.Error("a row before it is stored")
		}
		before := time.Now()
		c.Stored()
		if row, until := c.Row(); row.Token != in.Token || until.Before(before.Add(in.Delay)) {
			t.Errorf("row %+v until %v", row, until)
		}
	}
}
