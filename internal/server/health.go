package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/metric"
)

// Check is a component whose readiness /readyz reports.
type Check struct {
	Name string // in the answer, such as "kafka"
	Role string // what needs it, such as "consuming", for /readyz?role=consuming
	// Ready returns nil, or why the component is not ready, without secrets. It should answer from
	// memory; without an answer by the deadline it counts as not ready.
	Ready func(ctx context.Context) error
}

// HealthOptions configure the health routes.
type HealthOptions struct {
	Checks   []Check             // run concurrently for each request of /readyz
	Gatherer prometheus.Gatherer // for /metrics; required
}

// checkTime bounds all checks together: probes wait only a few seconds.
const checkTime = 2 * time.Second

// NewHealth returns the routes /livez, /readyz and /metrics, for GET and HEAD. /livez only shows
// that the process serves requests: a restart would not repair a database.
func NewHealth(options HealthOptions) (http.Handler, error) {
	if options.Gatherer == nil {
		return nil, errors.New("health: Gatherer is nil")
	}
	for _, check := range options.Checks {
		if check.Ready == nil || check.Role == "" {
			return nil, fmt.Errorf("health: the check %q has no function or no role", check.Name)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.Handle("/readyz", readiness(options.Checks))
	mux.Handle("/metrics", promhttp.HandlerFor(options.Gatherer, promhttp.HandlerOpts{
		MaxRequestsInFlight: 4, // scrapes are costly, and the whole cluster may reach this address
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
	Error string `json:"error,omitempty"` // why it is not ready
}

type readiness []Check

var errNoAnswer = errors.New("the check timed out")

// ServeHTTP answers 200 if every part, or every part of the given role, is ready, else 503, with
// these parts. A role that the process does not have gets 400, or a probe would find an absent
// component ready.
func (h readiness) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	checks := []Check(h)
	if r.URL.RawQuery != "" {
		var err error
		if checks, err = h.asked(r.URL.RawQuery); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	ctx, cancel := context.WithTimeoutCause(r.Context(), checkTime, errNoAnswer)
	defer cancel()
	answer := run(ctx, checks)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !answer.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(answer) // fails if the client is gone
}

// asked returns the checks that a query selects. Anything but a role of the process is an error: a
// misspelt query must not look like none.
func (h readiness) asked(query string) ([]Check, error) {
	values, err := url.ParseQuery(query)
	var checks []Check
	if role := values["role"]; err == nil && len(values) == 1 && len(role) == 1 {
		checks = slices.DeleteFunc(slices.Clone(h), func(c Check) bool { return c.Role != role[0] })
	}
	if len(checks) > 0 {
		return checks, nil
	}
	var roles []string
	for _, check := range h {
		if !slices.Contains(roles, check.Role) {
			roles = append(roles, check.Role)
		}
	}
	return nil, fmt.Errorf("%.80q is not a role of this process: use /readyz for all, or /readyz?role= with one of %s; "+
		"listeners have a role once their address is set", query, strings.Join(roles, ", "))
}

// run runs the checks concurrently. A check that ignores its context is left behind and its result
// dropped.
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

// RegisterProcess registers metrics of the Go runtime, the process and the build.
func RegisterProcess(registerer prometheus.Registerer, version, revision string) error {
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "webhook_dispatcher_build_info",
		Help:        "Always 1; the labels are the build.",
		ConstLabels: prometheus.Labels{"version": version, "revision": revision, "go_version": runtime.Version()},
	})
	build.Set(1)
	process := collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})
	return metric.Register(registerer, collectors.NewGoCollector(), process, build)
}
