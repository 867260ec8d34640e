package config

import (
	"reflect"
	"testing"
	"time"
)

func TestFilterSettings(t *testing.T) {
	t.Parallel()
	file := writeFile(t, "tokens", "0123456789abcdef,fedcba9876543210\n")
	c, loader, err := parse(t, good("WEBHOOK_DISPATCHER_FILTER_LISTEN=127.0.0.1:0", "WEBHOOK_DISPATCHER_FILTER_TOKENS_FILE="+file),
		"--filter-deadline=500ms")
	if err != nil {
		t.Fatal(err)
	}
	if c.FilterListen != "127.0.0.1:0" || c.FilterDeadline != 500*time.Millisecond {
		t.Errorf("listens at %q, deadline %s", c.FilterListen, c.FilterDeadline)
	}
	if want := []string{"0123456789abcdef", "fedcba9876543210"}; !reflect.DeepEqual(c.Tokens(), want) {
		t.Errorf("%d tokens, want those of the file", len(c.Tokens()))
	}
	if w := loader.Warnings(); len(w) != 0 {
		t.Errorf("warnings: %q", w)
	}
}
