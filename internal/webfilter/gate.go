package webfilter

import (
	"sync"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/breaker"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// MaxCalls is how many calls of one row run at once; with more, its endpoint is late already.
const MaxCalls = 64

const maxGates = 4096 // rows remembered; with more, breakers close early now and then

// gate limits the calls of a row: to MaxCalls at a time, and almost none while its endpoint gives
// no answers, of any status. A refused call counts as a failed request.
type gate struct {
	mu      sync.Mutex
	breaker *breaker.Breaker // guarded by mu
	running int              // guarded by mu
}

// enter admits a call, or returns why not. The caller calls leave once, with the endpoint's signal.
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
	return func(signal delivery.Signal) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.running--
		g.breaker.Note(request, signal, began)
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
