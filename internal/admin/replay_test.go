package admin_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

func TestReplayProblems(t *testing.T) {
	t.Parallel()
	one := []admin.DeliveryRef{{Row: 1}}
	dead, delivered := []delivery.State{delivery.Dead}, []delivery.State{delivery.Delivered}
	id := int32(7)
	for name, c := range map[string]struct {
		request admin.Replay
		want    string // empty: it is right
	}{
		"nothing":               {admin.Replay{}, "write the ids"},
		"ids":                   {admin.Replay{IDs: one}, ""},
		"dead":                  {admin.Replay{Selection: admin.Selection{States: dead}}, ""},
		"ids and a state":       {admin.Replay{IDs: one, Selection: admin.Selection{States: dead}}, "not both"},
		"ids and a rule":        {admin.Replay{IDs: one, Selection: admin.Selection{Rule: &id}}, "not both"},
		"a rule alone":          {admin.Replay{Selection: admin.Selection{Rule: &id}}, "write the ids"},
		"delivered":             {admin.Replay{Selection: admin.Selection{States: delivered}}, "add `new-id`"},
		"delivered, new id":     {admin.Replay{Selection: admin.Selection{States: delivered}, NewID: true}, ""},
		"pending":               {admin.Replay{Selection: admin.Selection{States: []delivery.State{delivery.Pending}}}, "only dead"},
		"pending, under new id": {admin.Replay{Selection: admin.Selection{States: []delivery.State{delivery.Pending}}, NewID: true}, "only dead"},
	} {
		err := c.request.Check()
		problem, wrong := errors.AsType[*admin.Problem](err)
		if wrong != (c.want != "") || wrong && !strings.Contains(problem.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// A replay counts first. Nothing is changed without Apply, and with it what was counted.
func TestReplayOfIDs(t *testing.T) {
	t.Parallel()
	for _, apply := range []bool{false, true} {
		st := &rows{}
		st.all = append(st.all, summary(1, delivery.Dead, 2), summary(2, delivery.Dead, 0), summary(3, delivery.Delivered, 0),
			summary(4, delivery.Leased, 2))
		var counted int
		request := &admin.Replay{Apply: apply, Counted: func(v *admin.ReplayView) { counted = v.Replayable*10 + v.RefusedCount }}
		for _, row := range []uint64{1, 2, 3, 4, 9, 1} {
			request.IDs = append(request.IDs, admin.DeliveryRef{Row: row})
		}
		view, err := operations(t, admin.Options{Store: st}).Replay(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		var refused []string
		for _, r := range view.Refused {
			refused = append(refused, r.Delivery+" "+r.Reason)
		}
		want := []string{
			"2 its body was not kept ()", "3 it is delivered; add `new-id` to send it again under a new webhook-id", "4 it is leased",
			"9 there is no such row",
		}
		if !slices.Equal(refused, want) || counted != 14 || view.Applied != apply || view.Replayable != 1 {
			t.Errorf("got %+v, counted %d, refused %q", view, counted, refused)
		}
		if applied := fmt.Sprint(view.Replayed, st.replayed); apply && applied != "1 [1]" || !apply && (applied != "0 []" || st.changed > 0) {
			t.Errorf("apply %v: replayed %s", apply, applied)
		}
	}
}

func TestReplayOfDead(t *testing.T) {
	t.Parallel()
	st := &rows{all: []store.Summary{summary(2, delivery.Dead, 0)}}
	request := &admin.Replay{Selection: admin.Selection{States: []delivery.State{delivery.Dead}, Until: admin.Moment{At: now.Add(time.Hour)}}}
	a := operations(t, admin.Options{Store: st})
	view, err := a.Replay(t.Context(), request)
	if err != nil || view.Replayable != 3 || view.RefusedCount != 2 || len(view.Refused) != 1 || view.Replayed != 0 || st.changed > 0 {
		t.Errorf("counted %+v, %v", view, err)
	}
	request.Apply = true
	view, err = a.Replay(t.Context(), request)
	// A delivery that is replayed and fails again must not be met again.
	if err != nil || view.Replayed != 3 || st.changed != 1 || !st.selected.Until.Equal(now) {
		t.Errorf("replayed %+v, %v, until %s", view, err, st.selected.Until)
	}
}

func TestTopicReplayOfWrongRules(t *testing.T) {
	t.Parallel()
	a := operations(t, admin.Options{
		Store: &rows{}, Decoder: func() (decode.Decoder, error) { return nil, errors.New("nothing is read") },
	})
	_, err := a.ReplayTopics(t.Context(), &admin.TopicReplay{Rule: 8, Since: admin.Moment{Ago: time.Hour}})
	if missing, ok := errors.AsType[*admin.NotFoundError](err); !ok || missing.See != admin.SeeRules {
		t.Errorf("of a rule that does not exist: %v", err)
	}
	_, err = a.ReplayTopics(t.Context(), &admin.TopicReplay{Rule: 7, Since: admin.Moment{Ago: time.Hour}})
	if state, ok := errors.AsType[*admin.RuleStateError](err); !ok || state.ID != 7 || state.Status != rule.Disabled {
		t.Errorf("of a disabled rule: %v", err)
	}
}

// ring is keys of which the first is named.
type ring struct {
	admin.Keys

	id string
}

func (r ring) ID() string { return r.id }

func (r ring) Reseal(o *rule.Option) error {
	if o.Sealed == "broken" {
		return errors.New("no key opens it")
	}
	o.KeyID = r.id
	return nil
}

func TestRotateKeys(t *testing.T) {
	t.Parallel()
	st := &rows{options: []rule.Option{{Sealed: "s"}, {Sealed: "broken"}}}
	rotate := func(id string) (*admin.RotateView, error) {
		return operations(t, admin.Options{Store: st, Keys: ring{id: id}}).RotateKeys(t.Context())
	}
	if _, err := rotate(""); len(admin.Problems(err)) != 1 {
		t.Errorf("without a key: %v", err)
	}
	view, err := rotate("k2")
	if err == nil || len(admin.Problems(err)) > 0 || view == nil || view.Rules != 1 || view.KeyID != "k2" {
		t.Errorf("got %+v, %v", view, err)
	}
	st.options = st.options[:1]
	if view, err = rotate("k2"); err != nil || view.Rules != 1 {
		t.Errorf("got %+v, %v", view, err)
	}
}
