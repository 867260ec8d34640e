package kafka

import (
	"context"
	"net"
	"slices"
	"strconv"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/fakes"
)

func TestPositionBelowTheLogsStart(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a"))
	b.publish("dev-a", 0, numbers("v", 10)...)
	if err := b.broker.Commit(t.Context(), group, "dev-a", 0, 2); err != nil {
		t.Fatal(err)
	}
	if err := b.broker.DeleteRecords("dev-a", 0, 7); err != nil {
		t.Fatal(err)
	}
	h := newHandler()
	c := b.consume(h, func(o *Options) { o.Registerer = prometheus.NewRegistry() })
	h.waitFor(t, 3)
	if got := h.values(); !slices.Equal(got, []string{"v7", "v8", "v9"}) {
		t.Fatalf("read %q", got)
	}
	b.wantCommitted("dev-a", 0, 10)
	if lost := testutil.ToFloat64(c.metrics.lost); lost != 5 {
		t.Errorf("counted %v lost, want 5", lost)
	}
}

func TestPositionAboveTheLogsEnd(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a"))
	b.publish("dev-a", 0, "1", "2", "3")
	if err := b.broker.Commit(t.Context(), group, "dev-a", 0, 100); err != nil {
		t.Fatal(err)
	}
	h := newHandler()
	c := b.consume(h, nil)
	h.waitFor(t, 3)
	b.wantCommitted("dev-a", 0, 3) // behind what was committed, on purpose
	if testutil.ToFloat64(c.metrics.resets) != 1 || testutil.ToFloat64(c.metrics.lost) != 0 {
		t.Error("the reset was not counted, or something was counted as lost")
	}
}

func TestTopicMadeAnewWhileRecordsAreInFlight(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a", "dev-b"))
	b.publish("dev-a", 0, numbers("old", 5)...)
	h := newHandler()
	hold := make(chan *bus.Record, 100)
	first := true
	h.take = func(_ context.Context, rec *bus.Record) {
		if rec.Topic == "dev-a" && first {
			hold <- rec
			return
		}
		rec.Done()
	}
	b.consume(h, func(o *Options) { o.Topics = []string{"a", "b"} })
	h.waitFor(t, 5)
	first = false
	if err := b.broker.Cluster().DeleteTopic("dev-a"); err != nil {
		t.Fatal(err)
	}
	// The rest goes on.
	b.publish("dev-b", 0, "b")
	h.waitFor(t, 6)
	if err := b.broker.CreateTopic("dev-a", 1); err != nil {
		t.Fatal(err)
	}
	if err := b.broker.Forget(); err != nil { // its client still holds the old topic's id
		t.Fatal(err)
	}
	b.publish("dev-a", 0, "new0", "new1")
	h.waitFor(t, 8)
	for range 5 {
		(<-hold).Done() // of a log that is gone: must not move the new one's watermark
	}
	b.wantCommitted("dev-a", 0, 2)
	b.wantCommitted("dev-b", 0, 1)
}

func TestBrokerRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := newBench(t, fakes.BrokerOptions{Topics: map[string]int32{"dev-a": 2}, DataDir: dir})
	b.publish("dev-a", 0, "1")
	b.publish("dev-a", 1, "2")
	h := newHandler()
	b.consume(h, nil)
	h.waitFor(t, 2)
	b.wantCommitted("dev-a", 0, 1)
	b.wantCommitted("dev-a", 1, 1)
	port := portOf(t, b.broker.Addrs()[0])
	b.broker.Close()
	broker, err := fakes.StartBroker(fakes.BrokerOptions{DataDir: dir, Port: port})
	if err != nil {
		t.Fatal(err)
	}
	b.broker = broker
	b.publish("dev-a", 0, "3")
	b.publish("dev-a", 1, "4")
	h.waitFor(t, 4)
	b.wantCommitted("dev-a", 0, 2)
	b.wantCommitted("dev-a", 1, 2)
	// Read twice is right where the generation ended before the last commit. Lost is not.
	for _, want := range []string{"1", "2", "3", "4"} {
		if !slices.Contains(h.values(), want) {
			t.Errorf("%s was lost: %q", want, h.values())
		}
	}
}

func portOf(t *testing.T, addr string) int {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
