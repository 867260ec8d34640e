package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// filterPayload is what the plugin sends for an enrolment.
const filterPayload = `{"user": {"id": 4, "last_login": "2023-01-31 20:28:10.976084+00:00", "is_superuser": false, "username": "andres", ` +
	`"first_name": "Andr\u00e9s", "last_name": "", "email": "andres@example.org", "is_staff": false, "is_active": true, ` +
	`"date_joined": "2023-01-31 20:28:10+00:00"}, "profile": {"id": 2, "user_id": 4, "name": "Andr\u00e9s", "meta": "", ` +
	`"courseware": "course.xml", "language": "", "location": "", "year_of_birth": null, "gender": null, "level_of_education": null, ` +
	`"mailing_address": null, "city": null, "country": null, "state": null, "goals": null, "bio": null, ` +
	`"profile_image_uploaded_at": null, "phone_number": null}, "course_key": "course-v1:edX+DemoX+Demo_Course", "mode": "audit", ` +
	`"event_metadata": {"event_type": "CourseEnrollmentStarted", "time": "2023-06-13T20:59:26.093379+00:00"}}`

// measureFilters sends requests to the filter endpoint at the scenario's rate. p50 and p99 are the
// endpoint's own time.
func measureFilters(ctx context.Context, s scenario) (f figures, err error) {
	b := &bed{}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.startReceiver(ctx, s); err != nil {
		return f, err
	}
	endpoint, url, err := b.startServer(ctx, "endpoint", "--receiver", b.receiverURL+hookPath, "--rows", fmt.Sprint(s.rules))
	if err != nil {
		return f, err
	}
	if err := askFilters(ctx, url, s.rate, s.rate); err != nil { // one second, to open connections
		return f, err
	}
	f.daemon.Requests = s.events
	f.daemon.CPU, f.daemon.Peak, err = endpoint.spent(func() error {
		began := time.Now()
		err := askFilters(ctx, url, s.events, s.rate)
		f.daemon.Took = time.Since(began)
		return err
	})
	if err != nil {
		return f, err
	}
	var own percentiles
	err = stats(ctx, url, &own)
	f.p50, f.p99 = own.P50, own.P99
	return f, err
}

// askFilters sends n requests at a fixed rate, however long the answers take.
func askFilters(ctx context.Context, url string, n, rate int) error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: concurrency}, Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	var failure atomic.Pointer[error]
	var asking sync.WaitGroup
	defer asking.Wait()
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for range n {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		asking.Go(func() {
			if err := askFilter(ctx, client, url); err != nil {
				failure.Store(&err)
			}
		})
	}
	asking.Wait()
	if err := failure.Load(); err != nil {
		return fmt.Errorf("ask the filter endpoint: %w", *err)
	}
	return nil
}

func askFilter(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+rule.FilterPath+filterName, strings.NewReader(filterPayload))
	if err != nil {
		return err
	}
	req.SetBasicAuth("dispatcher", filterToken)
	req.Header.Set("Content-Type", "application/json")
	return drain(client.Do(req))
}
