//go:build e2e

package webfilters

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/sender/sendertest"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/server"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/webfilter"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// token is in the URL of the plugin's row.
const token = "0123456789abcdef~t"

// dispatcher is a dispatcher's filter endpoint that has the rows of a case.
type dispatcher struct {
	t        *testing.T
	compiler *rule.Compiler
	server   *httptest.Server

	mu      sync.Mutex // guards what follows
	lastID  int32
	filter  string
	rules   []*rule.Webfilter
	answers []string // status and body of each answer
	wrong   []string // errors before an answer
}

func startDispatcher(t *testing.T) *dispatcher {
	t.Helper()
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	d := &dispatcher{t: t, compiler: &rule.Compiler{Catalogue: catalogue}}
	engine, err := webfilter.New(webfilter.Options{Rules: d, Caller: sendertest.New(t), Deadline: deadline})
	if err != nil {
		t.Fatal(err)
	}
	endpoint, err := server.NewFilters(server.FilterOptions{Filters: engine, Tokens: []string{"another-" + token, token}})
	if err != nil {
		t.Fatal(err)
	}
	d.server = httptest.NewServer(d.watch(endpoint))
	t.Cleanup(d.server.Close) // before the sender, whose connections the receiver waits for
	return d
}

// deadline bounds a chain of calls. It is more than the sum of the row timeouts of any case.
const deadline = 8 * time.Second

// watch records what the endpoint answers.
func (d *dispatcher) watch(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kept := httptest.NewRecorder()
		next.ServeHTTP(kept, r)
		d.mu.Lock()
		d.answers = append(d.answers, fmt.Sprintf("%d %s", kept.Code, kept.Body))
		d.mu.Unlock()
		maps.Copy(w.Header(), kept.Header())
		w.WriteHeader(kept.Code)
		_, _ = w.Write(kept.Body.Bytes()) // if the plugin is gone, its outcome says so
	})
}

// url is the URL of the plugin's row.
func (d *dispatcher) url(filter string) string {
	return fmt.Sprintf("http://dispatcher:%s@%s%s%s", token, d.server.Listener.Addr(), rule.FilterPath, filter)
}

// serve replaces the dispatcher's rows.
func (d *dispatcher) serve(filter string, rows []columns, timeout time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.filter, d.rules, d.answers, d.wrong = filter, nil, nil, nil
	options := rule.Document{Timeout: rule.Duration(timeout)}
	for _, c := range rows {
		d.lastID++
		one, hold, err := d.compiler.CompileWebfilter(rule.WebfilterRow{
			Row: rule.Row{
				ID: d.lastID, Created: time.Unix(1, 0), Modified: time.Unix(1, 0), Event: filter, URL: c["webhook_url"].(string),
				Enabled: true, Form: c["use_www_form_encoding"].(bool),
			},
			WebfilterFlags: rule.WebfilterFlags{
				DisableFiltering: c["disable_filtering"].(bool), DisableHalt: c["disable_halt"].(bool),
				HaltOn4xx: c["halt_on_4xx"].(bool), RedirectOn4xx: c["redirect_on_4xx"].(string),
				HaltOn5xx: c["halt_on_5xx"].(bool), RedirectOn5xx: c["redirect_on_5xx"].(string),
				HaltOnRequestException:     c["halt_on_request_exception"].(bool),
				RedirectOnRequestException: c["redirect_on_request_exception"].(string),
			},
		}, options, rule.Secrets{})
		if err != nil || hold != "" {
			d.wrong = append(d.wrong, fmt.Sprintf("the row %s: %s%v", c["webhook_url"], hold, err))
		}
		if one != nil {
			d.rules = append(d.rules, one)
		}
	}
}

// Webfilters implements webfilter.Rules.
func (d *dispatcher) Webfilters(name string) []*rule.Webfilter {
	d.mu.Lock()
	defer d.mu.Unlock()
	if name != d.filter {
		d.wrong = append(d.wrong, "the engine asked for the rows of "+name)
		return nil
	}
	return d.rules
}

// problems returns what is wrong even if the outcomes are equal: the endpoint must have been called
// once and have answered 200.
func (d *dispatcher) problems() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := d.wrong
	if len(d.answers) != 1 || d.answers[0][:3] != "200" {
		list = append(list, fmt.Sprintf("the dispatcher answered %d times: %.200q", len(d.answers), d.answers))
	}
	return list
}
