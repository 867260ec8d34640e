package webfilter

import (
	"errors"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

const (
	// maxCalls is how many calls of one row are under way at most. More would only wait for an endpoint that is late already.
	maxCalls = 64
	// The breaker's numbers are those that the lanes of webhooks have.
	tripAfter = 8                // calls in a row without an answer open it
	tripTime  = 5 * time.Second  // from the first one's begin to the last one's end
	openFor   = 10 * time.Second // before one call may show whether the endpoint answers again
	// maxGates bounds what is remembered of rows. With more rows, breakers close early now and then.
	maxGates = 4096
)

// What gobreaker is told of a call; nobody else sees these.
var (
	errFails = errors.New("the endpoint gives no answer")
	errNone  = errors.New("the call says nothing")
)

// gate lets the calls of one row through: no more than maxCalls at a time, and next to none while its endpoint gives no answers. An answer
// of whatever status is one, because the row may mean it: what a shut gate leaves is what the calls would have come to as well, a request
// that failed.
type gate struct {
	breaker *gobreaker.TwoStepCircuitBreaker[struct{}]

	mu      sync.Mutex // held whenever the breaker is told of a result: it asks for since then
	since   time.Time  // guarded by mu; the begin of the first failure in a row, zero after an answer
	running int        // guarded by mu
}

func newGate() *gate {
	g := &gate{}
	g.breaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests: 1,
		Timeout:     openFor,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			return c.ConsecutiveFailures >= tripAfter && time.Since(g.since) >= tripTime
		},
		IsExcluded: func(err error) bool { return errors.Is(err, errNone) },
	})
	return g
}

// enter lets a call in, or says why not. Whoever is let in calls leave once, with what the call says of the endpoint.
func (g *gate) enter() (leave func(delivery.Sign), refused outcome) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running >= maxCalls {
		return nil, outcomeBusy
	}
	permit, err := g.breaker.Allow()
	if err != nil {
		return nil, outcomeBreaker
	}
	g.running++
	began := time.Now()
	return func(sign delivery.Sign) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.running--
		switch sign {
		case delivery.SignWorks:
			g.since = time.Time{}
			permit(nil)
		case delivery.SignFails:
			if g.since.IsZero() {
				g.since = began
			}
			permit(errFails)
		default:
			permit(errNone)
		}
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
	made := newGate()
	g.byRow[key] = made
	return made
}
