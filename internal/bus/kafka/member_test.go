package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/backoff"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
)

func TestAfter(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want step
	}{
		{nil, stay},
		{kafka.RebalanceInProgress, rejoin},
		{kafka.IllegalGeneration, rejoin},
		{kafka.MemberIDRequired, rejoin},
		{kafka.UnknownMemberId, renew},
		{kafka.FencedInstanceID, fenced},
		{kafka.NotCoordinatorForGroup, retry},
		{kafka.GroupCoordinatorNotAvailable, retry},
		{kafka.GroupLoadInProgress, retry},
		{kafka.GroupAuthorizationFailed, retry},
		{kafka.GroupMaxSizeReached, retry},
		{kafka.InconsistentGroupProtocol, retry},
		{io.EOF, retry},
		{context.DeadlineExceeded, retry},
	} {
		if got := after(tt.err); got != tt.want {
			t.Errorf("after %v: %d, want %d", tt.err, got, tt.want)
		}
		if tt.err != nil && after(fmt.Errorf("sync: %w", tt.err)) != tt.want {
			t.Errorf("after %v, wrapped: another step", tt.err)
		}
	}
}

// attendance is what a coordinator saw of a group's members.
type attendance struct {
	mu     sync.Mutex
	joined []*kmsg.JoinGroupRequest
	left   int
	beats  int
	answer int16 // to the next heartbeat; 0 lets the coordinator answer
}

func attend(cluster *kfake.Cluster) *attendance {
	a := &attendance{}
	cluster.ControlKey(int16(kmsg.JoinGroup), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		a.mu.Lock()
		defer a.mu.Unlock()
		a.joined = append(a.joined, req.(*kmsg.JoinGroupRequest))
		return nil, nil, false
	})
	cluster.ControlKey(int16(kmsg.LeaveGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		a.mu.Lock()
		defer a.mu.Unlock()
		a.left++
		return nil, nil, false
	})
	cluster.ControlKey(int16(kmsg.Heartbeat), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		a.mu.Lock()
		defer a.mu.Unlock()
		a.beats++
		if a.answer == 0 {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.HeartbeatResponse)
		resp.ErrorCode, a.answer = a.answer, 0
		return resp, nil, true
	})
	return a
}

// ids returns the member ids under which JoinGroup was sent, "" for a new member.
func (a *attendance) ids() (ids []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, req := range a.joined {
		ids = append(ids, req.MemberID)
	}
	return ids
}

func (a *attendance) count() (left, beats int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.left, a.beats
}

func (a *attendance) reply(code int16) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = code
}

// shortest makes heartbeats as frequent as they can be: one in 1.2 s.
func shortest(o *Options) { o.SessionTimeout, o.Registerer = 6*time.Second, prometheus.NewRegistry() }

// What a member does when a heartbeat is answered with an error. None of it is a trouble, and
// records flow afterwards.
func TestHeartbeatAnswers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		code        *kerr.Error
		generations float64 // afterwards
		same        bool    // it joins under the id that it had
	}{
		{kerr.RebalanceInProgress, 2, true},
		{kerr.IllegalGeneration, 2, true},
		{kerr.UnknownMemberID, 2, false},
		{kerr.NotCoordinator, 1, true},
		{kerr.CoordinatorNotAvailable, 1, true},
		{kerr.CoordinatorLoadInProgress, 1, true},
	} {
		t.Run(tt.code.Message, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, topics("dev-a"))
			seen := attend(b.broker.Cluster())
			h := newHandler()
			c := b.consume(h, shortest)
			b.publish("dev-a", 0, "1")
			h.waitFor(t, 1)
			b.wantCommitted("dev-a", 0, 1)
			ids := seen.ids() // the first gives the member its id
			if len(ids) != 2 || ids[0] != "" || ids[1] == "" {
				t.Fatalf("joined as %q", ids)
			}
			seen.reply(tt.code.Code)
			_, before := seen.count()
			b.eventually("a heartbeat more", func() bool { _, beats := seen.count(); return beats > before+1 })
			b.eventually("the generations", func() bool { return testutil.ToFloat64(c.metrics.generations) == tt.generations })
			b.publish("dev-a", 0, "2")
			h.waitFor(t, 2)
			b.wantCommitted("dev-a", 0, 2)
			switch again := seen.ids()[2:]; {
			case tt.generations == 1 && len(again) > 0:
				t.Errorf("joined again as %q", again)
			case tt.generations > 1 && tt.same && !slices.Equal(again, ids[1:]):
				t.Errorf("joined again as %q, was %q", again, ids[1])
			case tt.generations > 1 && !tt.same && (len(again) == 0 || again[0] != ""):
				t.Errorf("joined again as %q though the coordinator does not know it", again)
			}
			if err := c.Ready(); err != nil {
				t.Errorf("not ready: %v", err)
			}
			if left, _ := seen.count(); left != 0 {
				t.Errorf("left the group %d times", left)
			}
		})
	}
}

// A topic that appears is asked for by the same member: it does not leave, and keeps its id.
func TestOtherTopicsWithoutLeaving(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a"))
	seen := attend(b.broker.Cluster())
	h := newHandler()
	c := b.consume(h, func(o *Options) { o.Topics = []string{AllTopics} })
	b.publish("dev-a", 0, "1")
	h.waitFor(t, 1)
	if err := b.broker.CreateTopic("dev-b", 1); err != nil {
		t.Fatal(err)
	}
	b.publish("dev-b", 0, "2")
	h.waitFor(t, 2)
	ids := seen.ids()
	if len(ids) != 3 || ids[2] != ids[1] {
		t.Errorf("joined as %q, want the same id for other topics", ids)
	}
	if left, _ := seen.count(); left != 0 {
		t.Errorf("left %d times", left)
	}
	c.stop()
	if left, _ := seen.count(); left != 1 {
		t.Errorf("left %d times by the end", left)
	}
}

// A static member does not leave; when it comes back it is the same. Another process with its
// instance id replaces it, and it says so instead of fighting.
func TestStaticMember(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a"))
	seen := attend(b.broker.Cluster())
	static := func(o *Options) { shortest(o); o.GroupInstanceID = "pod-0" }
	for i := range 2 {
		b.publish("dev-a", 0, fmt.Sprint(i))
		h := newHandler()
		c := b.consume(h, static)
		h.waitFor(t, 1)
		c.stop()
	}
	seen.mu.Lock()
	for _, req := range seen.joined {
		if req.InstanceID == nil || *req.InstanceID != "pod-0" {
			t.Errorf("joined without the instance id: %+v", req)
		}
	}
	seen.mu.Unlock()
	if left, _ := seen.count(); left != 0 {
		t.Errorf("left %d times", left)
	}
	first := b.consume(newHandler(), static)
	b.eventually("the first runs", func() bool { return first.current.Load() != nil })
	b.consume(newHandler(), static)
	b.eventually("the first is told", func() bool {
		err := first.Ready()
		return err != nil && strings.Contains(err.Error(), kafka.FencedInstanceID.Title())
	})
}

// The end of a generation may take longer than a heartbeat's turn; the coordinator must not think
// that the member is gone.
func TestHeartbeatsWhileDraining(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a"))
	seen := attend(b.broker.Cluster())
	b.publish("dev-a", 0, "1")
	h := newHandler()
	h.take = func(context.Context, *bus.Record) {}
	var before, during int
	h.drain = func(ctx context.Context) error {
		_, before = seen.count()
		<-ctx.Done()
		_, during = seen.count()
		return ctx.Err()
	}
	c := b.consume(h, shortest)
	h.waitFor(t, 1)
	c.stop()
	if during-before < 2 {
		t.Errorf("%d heartbeats in %s of draining", during-before, drainTime)
	}
}

// A broker ends connections whose authentication has expired at their next request. That costs
// neither the membership nor a commit, and nothing is read twice.
func TestConnectionsThatTheBrokerCloses(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a"))
	cluster := b.broker.Cluster()
	var closed, asked atomic.Int64
	var expiring atomic.Bool
	for _, key := range []kmsg.Key{kmsg.Fetch, kmsg.OffsetCommit, kmsg.Heartbeat, kmsg.FindCoordinator, kmsg.Metadata} {
		cluster.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
			cluster.KeepControl()
			if !expiring.Load() || asked.Add(1)%4 != 0 {
				return nil, nil, false
			}
			closed.Add(1)
			return nil, errors.New("authentication has expired"), true
		})
	}
	h := newHandler()
	c := b.consume(h, shortest)
	b.eventually("a generation", func() bool { return c.current.Load() != nil })
	b.publish("dev-a", 0, "first")
	h.waitFor(t, 1)
	expiring.Store(true)
	for i := range 30 {
		b.publish("dev-a", 0, fmt.Sprint(i))
		h.waitFor(t, i+2)
		_ = backoff.Sleep(t.Context(), 100*time.Millisecond) // for several heartbeats and commits
	}
	expiring.Store(false) // for our own client
	b.wantCommitted("dev-a", 0, 31)
	if n := closed.Load(); n < 10 {
		t.Errorf("only %d connections were closed", n)
	}
	if n := len(h.values()); n != 31 {
		t.Errorf("%d records of 31 were read", n)
	}
	if n := testutil.ToFloat64(c.metrics.generations); n != 1 {
		t.Errorf("%v generations", n)
	}
	if n := testutil.ToFloat64(c.metrics.commitFailed) + testutil.ToFloat64(c.metrics.commitEnded); n != 0 {
		t.Errorf("%v commits failed", n)
	}
}

// Once Run has returned nobody dials, also when the brokers could not be reached at the end.
func TestNoDialAfterStop(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a"))
	h := newHandler()
	c := b.consume(h, nil)
	b.publish("dev-a", 0, "1")
	h.waitFor(t, 1)
	addr := b.broker.Addrs()[0]
	b.broker.Close()
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	var dialled atomic.Int64
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			dialled.Add(1)
			_ = conn.Close()
		}
	}()
	b.eventually("dialled", func() bool { return dialled.Load() > 0 })
	c.stop()
	before := dialled.Load()
	_ = backoff.Sleep(t.Context(), time.Second)
	if n := dialled.Load() - before; n > 0 {
		t.Errorf("dialled %d times after the end", n)
	}
	if _, err := c.cluster.dial(t.Context(), "tcp", addr); !errors.Is(err, errClosed) {
		t.Errorf("dialled after the end: %v", err)
	}
	_ = listener.Close()
	<-accepting
}
