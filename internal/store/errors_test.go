package store

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
)

func TestErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	table := &mysql.MySQLError{Number: errNoTable, Message: "Table 'openedx.webhook_dispatcher_lane' doesn't exist"}
	foreign := &mysql.MySQLError{Number: errNoTable, Message: "Table 'openedx.openedx_webhooks_webhook' doesn't exist"}
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"refused": {&net.OpError{Op: "dial", Net: "tcp", Err: errors.New("refused")}, "host and port in WEBHOOK_DISPATCHER_MYSQL_DSN"},
		"access": {
			&mysql.MySQLError{Number: 1045, Message: "Access denied"},
			"WEBHOOK_DISPATCHER_MYSQL_DSN, and from which hosts the server lets this account in",
		},
		"no table":    {table, "run `webhook-dispatcher migrate`"},
		"other table": {foreign, "doesn't exist"},
		"value quoted": {
			&mysql.MySQLError{Number: 1062, Message: "Duplicate entry 'canary'", SQLState: [5]byte{'2', '3', '0', '0', '0'}},
			"Error 1062 (23000)",
		},
		"reading": {&net.OpError{Op: "read", Net: "tcp", Err: errors.New("reset")}, "reset"},
		"other":   {errors.New("other"), "other"},
	} {
		once := clean(fmt.Errorf("inner: %w", c.err))
		again := clean(fmt.Errorf("outer: %w", once))
		if text := once.Error(); !strings.HasSuffix(text, c.want) || strings.Contains(text, "canary") {
			t.Errorf("%s: %q, want it to end with %q", name, text, c.want)
		}
		if again.Error() != "outer: "+once.Error() {
			t.Errorf("%s: cleaned twice it is %q", name, again)
		}
		if !errors.Is(again, c.err) {
			t.Errorf("%s: the cause is lost", name)
		}
	}
	if clean(nil) != nil {
		t.Error("an error was made of nil")
	}
	if text := bare(clean(table)).Error(); strings.Contains(text, "migrate") {
		t.Errorf("bare: %q", text)
	}
}

func TestUnreachableServer(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1:1", "no-such-host.invalid:3306"} {
		s, err := Open(Options{DSN: "u:canary@tcp(" + host + ")/d"})
		if err != nil {
			t.Fatal(err)
		}
		err = s.Ping(t.Context())
		if err == nil || !strings.Contains(err.Error(), "WEBHOOK_DISPATCHER_MYSQL_DSN") || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: got %v, want the setting named", host, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
