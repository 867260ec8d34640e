package admin_test

import (
	"context"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// rows is a store with a few rows. Methods that it lacks are not called.
type rows struct {
	admin.Store

	all      []store.Summary
	attempts []delivery.Attempt
	options  []rule.Option
	selected store.Selection // by the last query
	replayed []uint64
	changed  int // calls that changed something
}

func (r *rows) Now(context.Context) (time.Time, error) { return now, nil }

func (r *rows) List(_ context.Context, f store.Selection, limit int) ([]store.Summary, bool, error) {
	r.selected = f
	return r.all[:min(limit, len(r.all))], limit < len(r.all), nil
}

func (r *rows) Summary(_ context.Context, id delivery.ID) (store.Summary, bool, error) {
	for i := range r.all {
		if r.all[i].ID == id {
			return r.all[i], true, nil
		}
	}
	return store.Summary{}, false, nil
}

func (r *rows) SummaryOfRow(_ context.Context, row uint64) (store.Summary, bool, error) {
	for i := range r.all {
		if r.all[i].RowID == row {
			return r.all[i], true, nil
		}
	}
	return store.Summary{}, false, nil
}

func (r *rows) Get(context.Context, delivery.ID) (delivery.Row, bool, error) {
	return delivery.Row{Delivery: delivery.Delivery{Body: []byte("b\xff")}}, true, nil
}

func (r *rows) Attempts(context.Context, delivery.ID) ([]delivery.Attempt, error) {
	return r.attempts, nil
}

func (r *rows) CountDead(_ context.Context, f store.Selection) (store.Dead, error) {
	r.selected = f
	return store.Dead{Replayable: 3, Bodyless: 2, Examples: []delivery.ID{{2}}}, nil
}

func (r *rows) ReplayDead(_ context.Context, f store.Selection) (int, error) {
	r.changed++
	r.selected = f
	return 3, nil
}

func (r *rows) Replay(_ context.Context, ids []uint64) (int, error) {
	r.changed++
	r.replayed = ids
	return len(ids), nil
}

func (r *rows) UndecodableRow(context.Context, uint64) (store.KeptRecord, bool, error) {
	return store.KeptRecord{}, false, nil
}

func (r *rows) Rules(context.Context) (rule.Tables, error) {
	row := rule.Row{ID: 7, Event: "BADGE_AWARDED", URL: "http://h/"}
	return rule.Tables{Webhooks: []rule.Row{row}}, nil
}

func (r *rows) Reseal(_ context.Context, change func(*rule.Option) error) (int, error) {
	for i := range r.options {
		if err := change(&r.options[i]); err != nil {
			return i, err
		}
	}
	return len(r.options), nil
}

func summary(row uint64, state delivery.State, size int64) store.Summary {
	s := store.Summary{BodySize: size}
	s.RowID, s.ID, s.State, s.Kind, s.RuleID = row, delivery.ID{byte(row)}, state, delivery.KindWebhook, 7
	return s
}

func operations(t *testing.T, o admin.Options) *admin.Admin {
	t.Helper()
	var err error
	if o.Catalogue, err = schema.LoadCatalogue(); err != nil {
		t.Fatal(err)
	}
	o.Compiler = &rule.Compiler{Catalogue: o.Catalogue}
	a, err := admin.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
