package server

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/sender"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/webfilter"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

type fixedRules []*rule.Webfilter

func (r fixedRules) Webfilters(string) []*rule.Webfilter { return r }

type instantly struct{}

func (instantly) Call(context.Context, *rule.Rule, delivery.ID, delivery.Format, []byte, int) (sender.Answer, error) {
	return sender.Answer{Status: 200, Reason: "OK", ContentType: "application/json", Body: []byte(`{"data": {"mode": "verified"}}`)}, nil
}

// BenchmarkFilterEndpoint is what the endpoint itself takes for a request: everything but the calls
// and the network.
func BenchmarkFilterEndpoint(b *testing.B) {
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		b.Fatal(err)
	}
	compiler := rule.Compiler{Catalogue: catalogue}
	for _, rows := range []int{0, 1, 5} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			var all fixedRules
			for i := range rows {
				row := rule.WebfilterRow{Row: rule.Row{ID: int32(i + 1), Event: "CourseEnrollmentStarted", URL: "https://rows.test/", Form: i%2 == 1}}
				f, hold, err := compiler.CompileWebfilter(row, rule.Document{}, rule.Secrets{})
				if err != nil || hold != "" {
					b.Fatal(hold, err)
				}
				all = append(all, f)
			}
			engine, err := webfilter.New(webfilter.Options{Rules: all, Caller: instantly{}})
			if err != nil {
				b.Fatal(err)
			}
			handler, err := NewFilters(FilterOptions{Filters: engine, Tokens: []string{firstToken, secondToken}})
			if err != nil {
				b.Fatal(err)
			}
			body := `{"user": {` + strings.Repeat(`"first_name": "Andr\u00e9s", "is_active": true, "id": 4, `, 30) + `"x": null}, "mode": "audit"}`
			authorization := basic(secondToken)
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequestWithContext(b.Context(), "POST", enrollment, strings.NewReader(body))
				r.Header["Authorization"], r.Header["Content-Type"] = []string{authorization}, []string{asJSON}
				answer := httptest.NewRecorder()
				if handler.ServeHTTP(answer, r); answer.Code != 200 {
					b.Fatal(answer.Code)
				}
			}
		})
	}
}
