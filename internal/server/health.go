package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Check is one part whose readiness /readyz tells.
type Check struct {
	// Name stands in the answer, such as "kafka".
	Name string
	// Role is what of the process needs the part, such as "consuming": /readyz?role=consuming asks the parts of this role alone.
	Role string
	// Ready returns nil when the part is ready, else why it is not, in words that an operator may see: no secret. It should
	// answer from memory; one that has not answered within the deadline counts as not ready.
	Ready func(ctx context.Context) error
}

// HealthOptions are what the health routes need.
type HealthOptions struct {
	// Checks are run for each request of /readyz, all or those of a role, at the same time.
	Checks []Check
	// Deadline bounds all checks of a request, 2 s if zero: probes give up after a few seconds and would then see no answer.
	Deadline time.Duration
	// Gatherer is what /metrics shows; required.
	Gatherer prometheus.Gatherer
}

// NewHealth returns the routes /livez, /readyz and /metrics. They take GET and HEAD.
//
// /livez says that the process serves requests. It looks at nothing else: a restart cures no database that is away.
func NewHealth(options HealthOptions) (http.Handler, error) {
	if options.Gatherer == nil {
		return nil, errors.New("health: no gatherer was given; /metrics would panic")
	}
	for _, check := range options.Checks {
		if check.Ready == nil {
			return nil, fmt.Errorf("health: the check %q has no function; /readyz would panic", check.Name)
		}
		if check.Role == "" {
			return nil, fmt.Errorf("health: the check %q has no role; nobody could ask for it", check.Name)
		}
	}
	if options.Deadline <= 0 {
		options.Deadline = 2 * time.Second
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.Handle("/readyz", &readiness{checks: options.Checks, deadline: options.Deadline})
	mux.Handle("/metrics", promhttp.HandlerFor(options.Gatherer, promhttp.HandlerOpts{
		MaxRequestsInFlight: 4, // a scrape is not for free, and this address may be open to the whole cluster
		EnableOpenMetrics:   true,
	}))
	return readOnly(mux), nil
}

// Readiness is the answer of /readyz.
type Readiness struct {
	Ready bool   `json:"ready"`
	Parts []Part `json:"parts"`
}

// Part is one check's result.
type Part struct {
	Name  string `json:"name"`
	Ready bool   `json:"ready"`
	// Error says why a part is not ready.
	Error string `json:"error,omitempty"`
}

type readiness struct {
	checks   []Check
	deadline time.Duration
}

var errNoAnswer = errors.New("the check has not answered in time")

// ServeHTTP answers 200 when every part is ready, or every part of the role that is asked for, else 503; either way with these parts. A
// role that the process does not have gets 400: answering for no part, a probe would find ready what is not there.
func (h *readiness) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	checks := h.checks
	if r.URL.RawQuery != "" {
		var err error
		if checks, err = h.asked(r.URL.RawQuery); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	ctx, cancel := context.WithTimeoutCause(r.Context(), h.deadline, errNoAnswer)
	defer cancel()
	answer := run(ctx, checks)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !answer.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	// The client is gone if this fails.
	_ = encoder.Encode(answer)
}

// asked returns the checks that a query is about. Anything but a role of the process is an error: a misspelt query must not look like none.
func (h *readiness) asked(query string) ([]Check, error) {
	values, err := url.ParseQuery(query)
	var checks []Check
	if role := values["role"]; err == nil && len(values) == 1 && len(role) == 1 {
		checks = slices.DeleteFunc(slices.Clone(h.checks), func(c Check) bool { return c.Role != role[0] })
	}
	if len(checks) > 0 {
		return checks, nil
	}
	var roles []string
	for _, check := range h.checks {
		if !slices.Contains(roles, check.Role) {
			roles = append(roles, check.Role)
		}
	}
	return nil, fmt.Errorf("%.80q does not ask for a role of this process: ask /readyz for all, or /readyz?role= with one of %s; "+
		"what listens has a role once its address is set", query, strings.Join(roles, ", "))
}

// run asks the parts at once. A check that ignores its context is left behind and ends when it does; its result is dropped.
func run(ctx context.Context, checks []Check) Readiness {
	answer := Readiness{Ready: true, Parts: make([]Part, len(checks))}
	var group sync.WaitGroup
	for i, check := range checks {
		group.Go(func() {
			answer.Parts[i] = Part{Name: check.Name, Ready: true}
			if err := ask(ctx, check); err != nil {
				answer.Parts[i].Ready, answer.Parts[i].Error = false, err.Error()
			}
		})
	}
	group.Wait()
	for _, part := range answer.Parts {
		answer.Ready = answer.Ready && part.Ready
	}
	return answer
}

func ask(ctx context.Context, check Check) error {
	result := make(chan error, 1)
	go func() { result <- check.Ready(ctx) }()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
