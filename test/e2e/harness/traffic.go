//go:build e2e

package harness

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Traffic is a stream of registrations at a steady rate.
type Traffic struct {
	p    *Producer
	quit chan struct{}
	done sync.WaitGroup

	mu          sync.Mutex // guards what follows
	sent        []Published
	failed      int
	PublishedAt map[string]time.Time // by event id
}

// StartTraffic publishes registrations of learners from first on, rate per second and spread over
// the partitions, until Stop or the end of the test.
func (p *Producer) StartTraffic(base string, partitions, rate, first int) *Traffic {
	p.T.Helper()
	f := &Traffic{p: p, quit: make(chan struct{}), PublishedAt: map[string]time.Time{}}
	f.done.Go(func() {
		begun := time.Now()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; {
			for due := int(time.Since(begun).Seconds() * float64(rate)); n < due; n++ {
				f.send(base, partitions, first+n)
			}
			select {
			case <-tick.C:
			case <-f.quit:
				return
			}
		}
	})
	p.T.Cleanup(func() { f.stopSending() })
	return f
}

func (f *Traffic) send(base string, partitions, n int) {
	record, id := f.p.Event(base, partitions, n)
	f.mu.Lock()
	f.PublishedAt[id] = time.Now()
	f.mu.Unlock()
	f.p.Client.Produce(context.Background(), record, func(r *kgo.Record, err error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if err != nil {
			f.failed++ // it may be in the log all the same
			return
		}
		f.sent = append(f.sent, Published{Number: n, ID: id, Topic: r.Topic, Partition: r.Partition, Offset: r.Offset})
	})
}

func (f *Traffic) stopSending() {
	select {
	case <-f.quit:
	default:
		close(f.quit)
	}
	f.done.Wait()
}

// Acknowledged returns what the broker has acknowledged so far.
func (f *Traffic) Acknowledged() []Published {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clip(f.sent)
}

// Stop ends the traffic and returns all events that the broker has acknowledged.
func (f *Traffic) Stop() []Published {
	f.p.T.Helper()
	f.stopSending()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := f.p.Client.Flush(ctx); err != nil {
		f.p.T.Fatalf("publish: %v", err)
	}
	all := f.Acknowledged()
	if len(all) == 0 {
		f.p.T.Fatal("nothing was published")
	}
	if f.failed > 0 {
		f.p.T.Logf("%d events could not be published", f.failed)
	}
	return all
}
