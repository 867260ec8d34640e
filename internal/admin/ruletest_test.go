package admin

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/sender/sendertest"
)

// What keeps an answer away is said in full, and of the host that it is about: whoever is told "the address is not allowed" opens the
// endpoint's network, which is no help where it is the authorization server that cannot be reached.
func TestSendSaysWhy(t *testing.T) {
	t.Parallel()
	logins := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"error":"invalid_client","error_description":"CANARY"}`))
	}))
	t.Cleanup(logins.Close)
	daemons := sendertest.New(t)
	oauth := func(tokenURL string) *rule.Access {
		return &rule.Access{OAuth2: &rule.OAuth2{TokenURL: tokenURL, ClientID: "c", Secret: "s"}}
	}
	for name, c := range map[string]struct {
		url    string
		access *rule.Access
		class  string
		want   string // in the detail
		server string
	}{
		"denied endpoint": {"http://10.0.0.1/", nil, "egress_denied", "the endpoint is not at an allowed address", ""},
		"denied token server": {
			logins.URL, oauth("https://10.0.0.1/CANARY"), "egress_denied", "the authorization server is not at", "https://10.0.0.1",
		},
		"wrong client": {logins.URL, oauth(logins.URL + "/CANARY"), "token", "invalid_client", logins.URL},
		"broken URL":   {"http://h:0/", nil, "request", "the URL's port is not between 1 and 65535", ""},
	} {
		r := &rule.Rule{Row: rule.Row{ID: 1, URL: c.url}, Kind: delivery.KindEvent, EventType: "AnyFilter", Target: "http://h", Access: c.access}
		d := &delivery.Delivery{Kind: delivery.KindEvent, RuleID: 1, Format: delivery.FormatJSON, Body: []byte("{}")}
		attempt, err := daemons.Try(t.Context(), r, d)
		entry := &rule.Entry{Rule: r, Webfilter: &rule.Webfilter{Rule: r}}
		called, callErr := callFilter(t.Context(), daemons, entry, d, payload.ObjectValue(nil, nil))
		if callErr != nil {
			t.Fatalf("%s: %v", name, callErr)
		}
		for kind, v := range map[string]*ResultView{"webhook": viewOf(&attempt).because(err), "webfilter": called} {
			text, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			if v.Error != c.class || !strings.Contains(v.Detail, c.want) || v.TokenServer != c.server || strings.Contains(string(text), "CANARY") {
				t.Errorf("%s, %s: %s", name, kind, text)
			}
		}
	}
}
