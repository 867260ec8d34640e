package dispatch_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/dispatch"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// nowhere takes every delivery at once.
type nowhere struct{ rules map[delivery.Lane]*rule.Rule }

func (n *nowhere) Send(context.Context, *rule.Rule, *delivery.Delivery, int) delivery.Attempt {
	return delivery.Attempt{Status: 200}
}
func (n *nowhere) Active(l delivery.Lane) *rule.Rule                       { return n.rules[l] }
func (n *nowhere) Paused(delivery.Lane) bool                               { return false }
func (n *nowhere) Enqueue(_ delivery.Insert, _ func() bool, stored func()) { stored() }
func (n *nowhere) Settle(delivery.Update)                                  {}
func (n *nowhere) Log(delivery.Attempt)                                    {}
func (n *nowhere) MaxBody() int                                            { return 1 << 20 }

// BenchmarkDispatch is what a delivery costs here without its request: one delivery an event, four partitions, windows of 1,000.
func BenchmarkDispatch(b *testing.B) {
	for _, lanes := range []int{1, 100} {
		b.Run(strconv.Itoa(lanes)+" lanes", func(b *testing.B) {
			n := &nowhere{rules: make(map[delivery.Lane]*rule.Rule)}
			for i := range lanes {
				l := delivery.Lane{Kind: delivery.KindWebhook, RuleID: int32(i)}
				n.rules[l] = &rule.Rule{Row: rule.Row{ID: l.RuleID}, Kind: l.Kind}
			}
			p, err := delivery.NewPolicy([]time.Duration{time.Second}, func() float64 { return 0.5 })
			if err != nil {
				b.Fatal(err)
			}
			d, err := dispatch.New(dispatch.Options{
				Sender: n, Rules: n, Queue: n, Policy: p, HandOff: 500 * time.Millisecond, Timeout: 10 * time.Second,
				EndpointConcurrency: 64, Concurrency: 1024, Registerer: prometheus.NewRegistry(),
			})
			if err != nil {
				b.Fatal(err)
			}
			d.Start()
			defer func() { _ = d.Stop(context.Background()) }()
			b.ReportAllocs()
			b.ResetTimer()
			partitions := make(chan int, 4)
			for part := range 4 {
				go func() {
					window := make(chan struct{}, 1000)
					for i := part; i < b.N; i += 4 {
						window <- struct{}{}
						ds := []delivery.Delivery{{Kind: delivery.KindWebhook, RuleID: int32(i % lanes), Body: []byte("{}")}}
						d.Dispatch(dispatch.Source{Topic: "t", Partition: part}, ds, func() { <-window })
					}
					for range cap(window) {
						window <- struct{}{} // all released
					}
					partitions <- part
				}()
			}
			for range 4 {
				<-partitions
			}
		})
	}
}
