package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
)

// What keeps an answer away is said in full, and of the host that it is about.
func TestSendSaysWhy(t *testing.T) {
	t.Parallel()
	for want, v := range map[string]admin.ResultView{
		"\nno answer: egress_denied after 3ms (the endpoint is elsewhere)\n": {
			Error: "egress_denied", Detail: "the endpoint is elsewhere", DurationMS: 3,
		},
		"\nno answer: token after 0s (invalid_client)\nauthorization server: https://10.0.0.1\n": {
			Error: "token", Detail: "invalid_client", TokenServer: "https://10.0.0.1",
		},
		"\nno answer: egress_denied after 0s (the address is not allowed; " +
			"see WEBHOOK_DISPATCHER_EGRESS_ALLOW)\n": {Error: "egress_denied"},
		"\nanswer: 200, broken off after 0s: timeout\n": {Status: 200, Error: "timeout"},
		"\nanswer: 204 after 1s\n":                      {OK: true, Status: 204, DurationMS: 1000},
	} {
		var stdout bytes.Buffer
		p := &Process{Stdout: &stdout}
		if err := p.printTest(&admin.TestView{Wanted: true, Request: &admin.RequestView{}, Result: &v}, false); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(stdout.String(), want) {
			t.Errorf("printed %q, want %q at the end", stdout.String(), want)
		}
	}
}
