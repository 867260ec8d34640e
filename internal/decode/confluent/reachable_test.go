package confluent

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
)

func TestReachableAsksUntilTheRegistryHasAnsweredOnce(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		status int
		body   string
		want   string // part of the error, "" for none
	}{
		{"types", 200, `["AVRO"]`, ""},
		{"no such resource", 404, `{"error_code": 404, "message": "HTTP 404 Not Found"}`, ""},
		{"unauthorised", 401, `{}`, "API key"},
		{"unavailable", 503, ``, "503"},
		{"nobody there", 0, ``, "no route"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			calls := 0
			c := newClient(t, func(*http.Request) (*http.Response, error) {
				calls++
				if tc.status == 0 {
					return nil, errors.New("no route")
				}
				return answers(tc.status, tc.body)
			})
			err := c.Reachable(t.Context())
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("error %v, want one with %q", err, tc.want)
			}
			if err != nil && (!strings.Contains(err.Error(), "registry.example") || strings.Contains(err.Error(), "hunter2")) {
				t.Errorf("the error %q must name the registry and no password", err)
			}
			before := calls
			if again := c.Reachable(t.Context()); (again == nil) != (err == nil) {
				t.Errorf("second time: %v", again)
			}
			if err == nil && calls != before {
				t.Error("asks again although the registry has answered")
			}
		})
	}
}

func TestRegistryThatGaveASchemaNeedsNoProbe(t *testing.T) {
	t.Parallel()
	c := newClient(t, func(r *http.Request) (*http.Response, error) {
		if !strings.HasSuffix(r.URL.Path, "/schemas/ids/7") {
			return nil, errors.New("probed")
		}
		return answers(200, goodSchema)
	})
	if _, err := c.Schema(context.Background(), 7); err != nil {
		t.Fatal(err)
	}
	if err := c.Reachable(t.Context()); err != nil {
		t.Error(err)
	}
}
