package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// measureFilters asks the filter endpoint at the scenario's rate. p50 and p99 are the endpoint's own time.
func measureFilters(ctx context.Context, s scenario) (f figures, err error) {
	b := &bed{client: local()}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.startReceiver(ctx, s); err != nil {
		return f, err
	}
	endpoint, url, err := startEndpoint(ctx, b.receiverURL+hookPath, s.rules)
	if err != nil {
		return f, err
	}
	b.cleanups = append(b.cleanups, endpoint.stop)
	if err := askFilters(ctx, url, s.rate, s.rate); err != nil { // a second, to open connections
		return f, err
	}
	before, err := endpoint.cpu()
	if err != nil {
		return f, err
	}
	began := time.Now()
	if err := askFilters(ctx, url, s.events, s.rate); err != nil {
		return f, err
	}
	f.daemon.requests, f.daemon.took = s.events, time.Since(began)
	after, err := endpoint.cpu()
	if err != nil {
		return f, err
	}
	f.daemon.cpu = after - before
	var own ownTime
	text, err := get(ctx, b.client, url+statsPath)
	if err == nil {
		err = json.Unmarshal(text, &own)
	}
	if err != nil {
		return f, fmt.Errorf("ask the endpoint for its times: %w", err)
	}
	f.p50, f.p99 = own.P50, own.P99
	f.daemon.peak, err = endpoint.peak()
	return f, err
}

// startEndpoint starts the filter endpoint and reads its address.
func startEndpoint(ctx context.Context, receiver string, rows int) (*process, string, error) {
	cmd, err := self(context.WithoutCancel(ctx), "endpoint", "--receiver", receiver, "--rows", fmt.Sprint(rows))
	if err != nil {
		return nil, "", err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	p, err := start(cmd)
	if err != nil {
		return nil, "", err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, "", errors.Join(fmt.Errorf("read the endpoint's address: %w", err), p.stop())
	}
	return p, strings.TrimSpace(line), nil
}

// askFilters asks n times, at a rate whatever the answers take.
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

func get(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end below
	return io.ReadAll(resp.Body)
}
