package webfilter

import (
	"context"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/sender"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rules are rows of one filter.
type rules []*rule.Webfilter

func (r rules) Webfilters(string) []*rule.Webfilter { return r }

// compiled makes filters of rows, with ids from 1 on.
func compiled(t testing.TB, filter string, rows ...rule.WebfilterRow) rules {
	t.Helper()
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	c := rule.Compiler{Catalogue: catalogue}
	var all rules
	for i, row := range rows {
		row.ID, row.Event = int32(i+1), filter
		f, _, err := c.CompileWebfilter(row, rule.Document{}, rule.Secrets{})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, f)
	}
	return all
}

// called is a Caller that answers by the path of the row's URL.
type called func(ctx context.Context, r *rule.Rule, format delivery.Format, body []byte) (sender.Answer, error)

func (c called) Call(ctx context.Context, r *rule.Rule, _ delivery.ID, f delivery.Format, body []byte, _ int) (sender.Answer, error) {
	return c(ctx, r, f, body)
}

func newEngine(t testing.TB, options Options) *Engine {
	t.Helper()
	e, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// received is a request that an endpoint got.
type received struct{ path, contentType, hop, body string }

// endpoint answers by path, and keeps what it got.
type endpoint struct {
	*httptest.Server
	mu  sync.Mutex
	got []received // guarded by mu
}

func newEndpoint(t testing.TB, answer func(w http.ResponseWriter, path string)) *endpoint {
	t.Helper()
	e := &endpoint{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		e.mu.Lock()
		e.got = append(e.got, received{r.URL.Path, r.Header.Get("Content-Type"), r.Header.Get(rule.HopHeader), string(body)})
		e.mu.Unlock()
		answer(w, r.URL.Path)
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) requests() []received {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.got
}

func request(t testing.TB, filter string) *Request {
	t.Helper()
	q, err := ParseRequest(filter, "application/json", []byte(`{"mode": "audit"}`))
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// text is the answer to the plugin.
func text(o *Outcome, filter string) string { return string(payload.AppendJSON(nil, o.Answer(filter))) }

// golden compares with a file of testdata, or writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}
