package admin

import (
	"reflect"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

func TestSettleTime(t *testing.T) {
	t.Parallel()
	for refresh, want := range map[time.Duration]time.Duration{
		100 * time.Millisecond: 10 * time.Second, 5 * time.Second: 10 * time.Second, 6 * time.Second: 12 * time.Second, time.Hour: 2 * time.Hour,
	} {
		if got := settleTime(refresh); got != want {
			t.Errorf("with a refresh of %s: %s, want %s", refresh, got, want)
		}
	}
}

// What the dispatcher would not send must stay with the plugin, which does.
func TestUnfitRulesAreNotAdopted(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, time.March, 1, 10, 0, 0, 0, time.UTC)
	compiled := new(rule.Rule)
	for _, c := range []struct {
		name  string
		entry rule.Entry
		want  *Refusal
	}{
		{"good", rule.Entry{Rule: compiled}, nil},
		{"faulty", rule.Entry{Fault: "no URL"}, &Refusal{Fault: "no URL"}},
		{"held", rule.Entry{Rule: compiled, Hold: "no key"}, &Refusal{Hold: "no key"}},
		{
			"paused",
			rule.Entry{Rule: compiled, Option: &rule.Option{PausedAt: at}},
			&Refusal{PausedAt: at, Cure: "once its endpoint is well"},
		},
		{
			"paused for its expression",
			rule.Entry{Rule: compiled, Option: &rule.Option{PausedAt: at, PauseReason: delivery.ReasonExpression}},
			&Refusal{PausedAt: at, Cure: "once its filter or transform is mended"},
		},
		{
			"released and held",
			rule.Entry{Rule: compiled, Hold: "no key", Option: &rule.Option{AdoptedAt: at, ReleasedAt: at}},
			&Refusal{Hold: "no key"},
		},
		{"adopted and held", rule.Entry{Rule: compiled, Hold: "no key", Option: &rule.Option{AdoptedAt: at}}, nil},
		{
			"adopted, enabled in Django and held",
			rule.Entry{Row: &rule.Row{Enabled: true}, Rule: compiled, Hold: "no key", Option: &rule.Option{AdoptedAt: at}},
			&Refusal{Hold: "no key"},
		},
		{
			"a filter with a mark that means nothing for it",
			rule.Entry{Rule: compiled, Key: rule.Key{Table: rule.Webfilters}, Option: &rule.Option{PausedAt: at}},
			nil,
		},
	} {
		e := c.entry
		if e.Key.ID = 7; e.Key.Table == 0 {
			e.Key.Table = rule.Webhooks
		}
		if e.Row == nil {
			e.Row = new(rule.Row)
		}
		if c.want != nil {
			c.want.Key = e.Key
		}
		if got := unfit(&e); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// A row that running daemons may not know is waited for before it is adopted; one that only this program has switched is not.
func TestAgeOfRow(t *testing.T) {
	t.Parallel()
	if got := age(&rule.Entry{Row: &rule.Row{Created: time.Unix(1, 0), Modified: time.Unix(5, 0)}}, time.Unix(7, 0)); got != 2*time.Second {
		t.Errorf("a row without options: %v", got)
	}
	now := time.Date(2026, time.March, 1, 10, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	const second = time.Second
	for _, c := range []struct {
		name              string
		created, modified time.Time
		adopted, released time.Time
		want              time.Duration
	}{
		{"changed in Django", ago(time.Hour), ago(3 * second), time.Time{}, time.Time{}, 3 * second},
		{"made in Django", ago(2 * second), ago(2 * second), time.Time{}, time.Time{}, 2 * second},
		{"old", ago(time.Hour), ago(time.Minute), time.Time{}, time.Time{}, time.Minute},
		{"released", ago(time.Hour), ago(second), ago(time.Minute), ago(second), time.Hour},
		{"released while disabled", ago(time.Hour), ago(4 * second), ago(4 * second), ago(second), time.Hour},
		{"changed after its release", ago(time.Hour), ago(second), ago(time.Minute), ago(2 * second), second},
		{"born adopted", ago(3 * second), ago(3 * second), ago(3 * second), ago(second), 3 * second},
		{"Django's clock is ahead", ago(time.Hour), now.Add(time.Minute), time.Time{}, time.Time{}, 0},
	} {
		e := &rule.Entry{
			Row: &rule.Row{Created: c.created, Modified: c.modified}, Option: &rule.Option{AdoptedAt: c.adopted, ReleasedAt: c.released},
		}
		if got := age(e, now); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
