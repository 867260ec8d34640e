package admin_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
)

// One wrong field must not hide another, and a failure must not look like a problem.
func TestProblems(t *testing.T) {
	t.Parallel()
	one := &admin.Problem{Field: "event", Reason: "it is unknown", Fix: "write another"}
	two := &admin.Problem{Reason: "there is nothing to do"}
	for _, c := range []struct {
		err  error
		want []*admin.Problem
	}{
		{nil, nil},
		{errors.New("the database is away"), nil},
		{one, []*admin.Problem{one}},
		{fmt.Errorf("add a rule: %w", errors.Join(one, fmt.Errorf("also: %w", two))), []*admin.Problem{one, two}},
	} {
		got := admin.Problems(c.err)
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%v: got %v, want %v", c.err, got, c.want)
		}
	}
	if got := one.Error(); got != "event: it is unknown: write another" {
		t.Errorf("got %q", got)
	}
	if got := two.Error(); got != "there is nothing to do" {
		t.Errorf("got %q", got)
	}
}

func TestSpell(t *testing.T) {
	t.Parallel()
	flag := func(name string) string { return "--" + name }
	for text, want := range map[string]string{
		"add `new-id` or `state`":   "add --new-id or --state",
		"run `echo k1:$(x)` first":  "run `echo k1:$(x)` first",
		"leave new-id out, not `A`": "leave new-id out, not `A`",
	} {
		if got := admin.Spell(text, flag); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
