package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/server"
)

const maxBody = 16 << 20

// startReceiver starts a server of all endpoints, one path for each rule.
func startReceiver(ctx context.Context, rules []*sampleRule, l *ledger, out *terminal) (*server.Server, error) {
	mux := http.NewServeMux()
	for _, r := range rules {
		mux.HandleFunc("POST /"+r.name, func(w http.ResponseWriter, req *http.Request) { receive(w, req, r, l, out) })
	}
	s, err := server.New(server.Options{Name: "receiver", Address: "127.0.0.1:0", Handler: mux})
	if err != nil {
		return nil, err
	}
	return s, s.Start(ctx)
}

// receive is what an endpoint does: read the body, recognise the event by its id, answer.
func receive(w http.ResponseWriter, req *http.Request, r *sampleRule, l *ledger, out *terminal) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
	if err != nil {
		return // the daemon is gone
	}
	a := arrival{at: time.Now(), rule: r, format: delivery.FormatJSON, body: body, status: http.StatusOK}
	if req.Header.Get("Content-Type") == delivery.FormatForm.ContentType() {
		a.format = delivery.FormatForm
	}
	event, err := a.read()
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var take bool
	if take, a.attempt = l.arrived(event, r, req.Header.Get("Webhook-Id")); !take {
		a.status = http.StatusServiceUnavailable
	}
	out.arrival(&a) // before the answer, to keep lines in order
	w.WriteHeader(a.status)
}

// arrival is one request as the terminal shows it.
type arrival struct {
	at        time.Time
	rule      *sampleRule
	format    delivery.Format
	body      []byte
	status    int
	attempt   int
	eventType string
	shape     string
}

const metadata = "event_metadata"

// read finds event type and shape in the body, and returns the event's id.
func (a *arrival) read() (eventID string, err error) {
	if a.format == delivery.FormatForm {
		return a.readForm()
	}
	v, err := payload.ParseJSON(a.body)
	if err != nil {
		return "", fmt.Errorf("read the body: %w", err)
	}
	meta, _ := v.Get(metadata)
	id, hasID := meta.Get("id")
	eventType, hasType := meta.Get("event_type")
	if !hasID || !hasType {
		return "", errors.New("read the body: it has no " + metadata)
	}
	data := v.Item(0)
	fields := make([]string, data.Len())
	for i := range fields {
		fields[i] = data.Key(i)
	}
	a.eventType = eventType.Text()
	a.shape = className(v.Key(0)) + "{" + strings.Join(fields, ", ") + "}"
	return id.Text(), nil
}

func (a *arrival) readForm() (eventID string, err error) {
	values, err := url.ParseQuery(string(a.body))
	if err != nil {
		return "", fmt.Errorf("read the body: %w", err)
	}
	if a.eventType = values.Get(metadata + "_event_type"); a.eventType == "" {
		return "", errors.New("read the body: it has no " + metadata)
	}
	var class string
	var fields []string
	for pair := range strings.SplitSeq(string(a.body), "&") {
		if key, _, _ := strings.Cut(pair, "="); !strings.HasPrefix(key, metadata) {
			var field string
			class, field, _ = strings.Cut(className(key), "_")
			fields = append(fields, field)
		}
	}
	a.shape = class + "(" + strings.Join(fields, ", ") + ")"
	return values.Get(metadata + "_id"), nil
}

// className is a class path without its modules.
func className(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }
