package webfilter

import (
	"sync"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/breaker"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

const (
	// MaxCalls is how many calls of one row are under way at most. More would only wait for an endpoint that is late already.
	MaxCalls = 64
	// maxGates bounds what is remembered of rows. With more rows, breakers close early now and then.
	maxGates = 4096
)

// gate lets the calls of one row through: no more than MaxCalls at a time, and next to none while its endpoint gives no answers. An answer
// of whatever status is one, because the row may mean it: what a shut gate leaves is what the calls would have come to as well, a request
// that failed.
type gate struct {
	mu      sync.Mutex
	breaker *breaker.Breaker // guarded by mu
	running int              // guarded by mu
}

// enter lets a call in, or says why not. Whoever is let in calls leave once, with what the call says of the endpoint.
func (g *gate) enter() (leave func(delivery.Signal), refused outcome) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running >= MaxCalls {
		return nil, outcomeBusy
	}
	if g.breaker.Look() == breaker.Open || g.breaker.Probing() {
		return nil, outcomeBreaker
	}
	g.running++
	began, request := time.Now(), &breaker.Request{}
	g.breaker.Begin(request)
	return func(sign delivery.Signal) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.running--
		g.breaker.Note(request, sign, began)
		g.breaker.End(request)
	}, ""
}

// gates are the gates of rows. A row whose URL is changed gets another.
type gates struct {
	mu    sync.Mutex
	byRow map[gateKey]*gate // guarded by mu
}

type gateKey struct {
	id  int32
	url string
}

func (g *gates) of(id int32, url string) *gate {
	g.mu.Lock()
	defer g.mu.Unlock()
	key := gateKey{id, url}
	if known := g.byRow[key]; known != nil {
		return known
	}
	if g.byRow == nil || len(g.byRow) >= maxGates {
		g.byRow = make(map[gateKey]*gate) // rows that are gone would stay for good otherwise
	}
	made := &gate{breaker: breaker.New(nil)}
	g.byRow[key] = made
	return made
}
