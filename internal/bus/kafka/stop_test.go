package kafka

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/fakes"
)

// A request that is never answered cannot be interrupted in kafka-go, and a JoinGroup may take 35
// s.
func TestStopWhileTheBrokerDoesNotAnswer(t *testing.T) {
	t.Parallel()
	for _, key := range []kmsg.Key{kmsg.JoinGroup, kmsg.Metadata, kmsg.FindCoordinator} {
		t.Run(key.Name(), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, topics("dev-a"))
			cluster := b.broker.Cluster()
			asked := make(chan struct{}, 100)
			cluster.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				select {
				case asked <- struct{}{}:
				default:
				}
				return nil, nil, true
			})
			c := b.consume(newHandler(), nil)
			<-asked
			began := time.Now()
			c.stop()
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("stopping took %s", took)
			}
		})
	}
}

// The handler breaks its promise: it does not return. The end of the generation does not wait for
// it for ever, does not drain, and commits nothing that was not released.
func TestHandlerThatDoesNotReturn(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a"))
	b.publish("dev-a", 0, "1", "2")
	h := newHandler()
	stuck := make(chan struct{})
	h.take = func(_ context.Context, rec *bus.Record) {
		if rec.Position == 1 {
			<-stuck
			return
		}
		rec.Done()
	}
	c := b.consume(h, nil)
	h.waitFor(t, 2)
	began := time.Now()
	c.stop()
	close(stuck)
	if took := time.Since(began); took > endTime+2*time.Second {
		t.Errorf("stopping took %s", took)
	}
	if h.drains != 0 {
		t.Error("Drain was called while Handle ran")
	}
	if got := b.committed("dev-a", 0); got != 1 {
		t.Errorf("committed %d", got)
	}
}

// A commit that the broker refuses because the generation is over is dropped; the next owner reads
// again.
func TestCommitOfAnEndedGenerationIsDropped(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a"))
	cluster := b.broker.Cluster()
	if err := b.broker.Commit(t.Context(), group, "dev-a", 0, 0); err != nil {
		t.Fatal(err)
	}
	h := newHandler()
	c := b.consume(h, func(o *Options) { o.Registerer = prometheus.NewRegistry() })
	b.eventually("a generation", func() bool { return c.current.Load() != nil })
	refused := make(chan struct{})
	cluster.ControlKey(int16(kmsg.OffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) {
		r := req.(*kmsg.OffsetCommitRequest)
		resp := r.ResponseKind().(*kmsg.OffsetCommitResponse)
		for _, t := range r.Topics {
			rt := kmsg.NewOffsetCommitResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewOffsetCommitResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, kerr.IllegalGeneration.Code
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		close(refused)
		return resp, nil, true
	})
	b.publish("dev-a", 0, "1")
	<-refused
	b.eventually("counted", func() bool { return testutil.ToFloat64(c.metrics.commitEnded) == 1 })
	if err := c.Ready(); err != nil {
		t.Errorf("the end of a generation is no trouble: %v", err)
	}
}

// A commit on its way when a clean stop begins is no trouble: the last commit waits for it.
func TestCommitUnderWayAtTheStopIsNoTrouble(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a"))
	cluster := b.broker.Cluster()
	if err := b.broker.Commit(t.Context(), group, "dev-a", 0, 0); err != nil {
		t.Fatal(err)
	}
	h := newHandler()
	c := b.consume(h, func(o *Options) { o.Registerer = prometheus.NewRegistry() })
	b.eventually("a generation", func() bool { return c.current.Load() != nil })
	asked, goOn := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	cluster.ControlKey(int16(kmsg.OffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) {
		if first.CompareAndSwap(false, true) {
			close(asked)
			cluster.SleepControl(func() { <-goOn })
		}
		return nil, nil, false
	})
	b.publish("dev-a", 0, "1")
	<-asked
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		c.stop()
	}()
	b.eventually("drained", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.drains == 1
	})
	close(goOn)
	<-stopped
	if n := testutil.ToFloat64(c.metrics.commitFailed); n != 0 {
		t.Errorf("%v commits counted as failed", n)
	}
	if got := b.committed("dev-a", 0); got != 1 {
		t.Errorf("committed %d, want 1", got)
	}
}

// The topic is refused to this user: named, not taken for absent, and the others are read.
func TestRefusedTopicIsNamedAndNotRemembered(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a", "dev-secret"))
	cluster := b.broker.Cluster()
	cluster.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		r := req.(*kmsg.MetadataRequest)
		for _, topic := range r.Topics {
			if topic.Topic != nil && *topic.Topic == "dev-secret" {
				cluster.KeepControl()
				return refuseTopic(cluster.ListenAddrs()[0], r, "dev-secret"), nil, true
			}
		}
		return nil, nil, false
	})
	b.publish("dev-a", 0, "1")
	h := newHandler()
	c := b.consume(h, func(o *Options) { o.Topics = []string{"a", "secret"} })
	h.waitFor(t, 1)
	b.eventually("named", func() bool { return c.Ready() != nil && strings.Contains(c.Ready().Error(), "dev-secret") })
	if _, exists := b.memory.row("dev-secret"); exists {
		t.Error("a topic that may not be seen was remembered")
	}
}

func refuseTopic(addr string, r *kmsg.MetadataRequest, refused string) kmsg.Response {
	resp := r.ResponseKind().(*kmsg.MetadataResponse)
	broker := kmsg.NewMetadataResponseBroker()
	host, port, _ := strings.Cut(addr, ":")
	broker.NodeID, broker.Host = 0, host
	for _, d := range port {
		broker.Port = broker.Port*10 + d - '0'
	}
	resp.Brokers = append(resp.Brokers, broker)
	for _, topic := range r.Topics {
		t := kmsg.NewMetadataResponseTopic()
		t.Topic = topic.Topic
		if *topic.Topic == refused {
			t.ErrorCode = kerr.TopicAuthorizationFailed.Code
		} else {
			p := kmsg.NewMetadataResponseTopicPartition()
			p.Partition, p.Leader = 0, 0
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp
}

func TestMetricsAreThereFromTheStart(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	b := newBench(t, fakes.BrokerOptions{})
	b.consume(newHandler(), func(o *Options) { o.Registerer = reg })
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]int{}
	for _, f := range families {
		have[f.GetName()] = len(f.GetMetric())
	}
	for name, series := range map[string]int{
		"webhook_dispatcher_bus_records_total": 1, "webhook_dispatcher_bus_record_bytes_total": 1, "webhook_dispatcher_bus_commits_total": 3,
		"webhook_dispatcher_bus_generations_total": 1, "webhook_dispatcher_records_lost_total": 1,
		"webhook_dispatcher_bus_position_resets_total": 1, "webhook_dispatcher_bus_window_full_seconds_total": 1,
		"webhook_dispatcher_bus_fetch_errors_total": len(errorClasses), "webhook_dispatcher_bus_partitions_assigned": 1,
		"webhook_dispatcher_bus_topics_subscribed": 1, "webhook_dispatcher_consumer_lag_records": 1,
	} {
		if have[name] != series {
			t.Errorf("%s has %d series, want %d", name, have[name], series)
		}
	}
}
