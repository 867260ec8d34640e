package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/app"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/sender"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/server"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/webfilter"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

const (
	filterName  = "CourseEnrollmentStarted"
	filterToken = "0123456789abcdef0123456789abcdef"

	signingSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)

// endpointCommand is the daemon's filter endpoint as a process, without bus and database. All rows
// have the same receiver.
type endpointCommand struct {
	Receiver string
	Rows     int

	mu  sync.Mutex
	own []time.Duration // of requests, without the calls of the receiver; guarded by mu
}

// waited is the context key of the time spent in calls.
type waited struct{}

type fixedRows []*rule.Webfilter

// Webfilters implements webfilter.Rules.
func (r fixedRows) Webfilters(string) []*rule.Webfilter { return r }

// timed records how long an engine waited for calls.
type timed struct{ *webfilter.Engine }

// Run implements server.Filters.
func (t timed) Run(ctx context.Context, q *webfilter.Request) (*webfilter.Outcome, error) {
	out, err := t.Engine.Run(ctx, q)
	if calling, ok := ctx.Value(waited{}).(*time.Duration); ok && err == nil {
		*calling = out.Calling
	}
	return out, err
}

// Run implements the command.
func (c *endpointCommand) Run(ctx context.Context, out io.Writer) error {
	handler, closeSender, err := c.handler()
	if err != nil {
		return err
	}
	defer closeSender()
	mux := http.NewServeMux()
	mux.HandleFunc(statsPath, c.stats)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		began, calling := time.Now(), time.Duration(0)
		handler.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), waited{}, &calling)))
		c.mu.Lock()
		c.own = append(c.own, time.Since(began)-calling)
		c.mu.Unlock()
	})
	s, err := server.New(server.Options{Name: "filters", Address: "127.0.0.1:0", Handler: mux})
	if err != nil {
		return err
	}
	if err := s.Start(ctx); err != nil {
		return err
	}
	fmt.Fprintf(out, "http://%s\n", s.Addr())
	<-ctx.Done()
	return s.Stop(context.WithoutCancel(ctx))
}

func (c *endpointCommand) handler() (_ http.Handler, closeSender func(), err error) {
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		return nil, nil, err
	}
	compiler := rule.Compiler{Catalogue: catalogue}
	var rows fixedRows
	for i := range c.Rows {
		row := rule.WebfilterRow{Row: rule.Row{ID: int32(i + 1), Event: filterName, URL: c.Receiver}}
		f, _, err := compiler.CompileWebfilter(row, rule.Document{}, rule.Secrets{})
		if err != nil {
			return nil, nil, err
		}
		rows = append(rows, f)
	}
	cfg := config.Default()
	cfg.EgressAllow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	cfg.SigningScheme, cfg.SigningSecret = "standard", signingSecret
	calls, closeSender, err := app.NewSender(&cfg, sender.Options{Version: "bench"})
	if err != nil {
		return nil, nil, err
	}
	engine, err := webfilter.New(webfilter.Options{Rules: rows, Caller: calls})
	if err != nil {
		return nil, nil, err
	}
	filters, err := server.NewFilters(server.FilterOptions{Filters: timed{engine}, Tokens: []string{filterToken}})
	return filters, closeSender, err
}

func (c *endpointCommand) stats(w http.ResponseWriter, _ *http.Request) {
	c.mu.Lock()
	own := percentilesOf(c.own)
	c.mu.Unlock()
	_ = json.NewEncoder(w).Encode(own) // the client may be gone
}
