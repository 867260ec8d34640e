package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/consumer"
	"github.com/segmentio/kafka-go/protocol/heartbeat"
	"github.com/segmentio/kafka-go/protocol/joingroup"
	"github.com/segmentio/kafka-go/protocol/leavegroup"
	"github.com/segmentio/kafka-go/protocol/syncgroup"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/backoff"
)

// member is this process's membership in the consumer group:
//
//	topics wanted ──► JoinGroup ──► SyncGroup ──► generation, with heartbeats
//	   ▲   ▲              │ error      │ error        │ the coordinator or this process ends it; it drains
//	   │   └── pause ◄────┴────────────┘              │
//	   └──────────────────────────────────────────────┘
//	no topic wanted, or the process stops: LeaveGroup
//
// A member keeps its id as long as the coordinator knows it. It does not leave to join again with
// other topics or partitions, or after the coordinator was away. kafka-go's ConsumerGroup is not
// used: it takes one set of topics for good, joins under a new id whenever a connection breaks, and
// cannot be stopped during a request.
type member struct {
	*Consumer
	wake   chan struct{} // a token when other topics are wanted
	routes *route        // to the partitions of the current topics
	id     string        // given by the coordinator; empty before

	mu     sync.Mutex // guards what follows
	wanted []string
	first  map[string]*firstPositions
}

const (
	// joinTimeout is how long the group waits for its members to come back in a rebalance.
	joinTimeout = 30 * time.Second
	// joinPatience is how long the answer to a JoinGroup is waited for.
	joinPatience = joinTimeout + 5*time.Second
	// leavePatience is how long stopping waits for the coordinator.
	leavePatience = 2 * time.Second
	// silentSessions is how many session timeouts a coordinator may be silent before its members
	// give up their partitions. One that restarts gives all members a new session, so after one
	// timeout nothing is lost yet; but behind a broken network others may have the partitions by
	// then.
	silentSessions = 3
	// fencedPause is how long a process stays away whose instance id another process has taken.
	fencedPause = time.Minute
	// protocolType is what the coordinator calls a group of consumers.
	protocolType = "consumer"
)

// step is what a member does after an answer.
type step uint8

const (
	stay   step = iota // all is well
	rejoin             // join again under the same id
	renew              // the coordinator does not know the id (any more): join as a new member
	fenced             // another process has the instance id: stay away for a while
	retry              // the coordinator moves, cannot be reached or refuses: ask again
)

// over reports whether the answer ended the generation.
func (s step) over() bool { return s != stay && s != retry }

// after says what to do after the answer of the coordinator to any group request.
func after(err error) step {
	switch {
	case err == nil:
		return stay
	case errors.Is(err, kafka.RebalanceInProgress), errors.Is(err, kafka.IllegalGeneration), errors.Is(err, kafka.MemberIDRequired):
		return rejoin
	case errors.Is(err, kafka.UnknownMemberId):
		return renew
	case errors.Is(err, kafka.FencedInstanceID):
		return fenced
	}
	return retry
}

// moving reports whether the group has no coordinator at the moment.
func moving(err error) bool {
	return errors.Is(err, kafka.NotCoordinatorForGroup) || errors.Is(err, kafka.GroupCoordinatorNotAvailable) ||
		errors.Is(err, kafka.GroupLoadInProgress)
}

// want sets the topics to join for. It ends a generation that has other topics or whose assignment
// is outdated.
func (m *member) want(topics []string, found *discovery) {
	m.mu.Lock()
	changed := !slices.Equal(m.wanted, topics)
	m.wanted = topics
	m.mu.Unlock()
	if changed {
		signal(m.wake)
	}
	g := m.current.Load()
	switch {
	case g == nil:
	case !slices.Equal(g.topics, topics):
		g.stop()
	case g.counted.outdated(found):
		m.log.Info("the number of partitions has changed; having them assigned again")
		g.stop()
	}
}

func (m *member) topics() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.wanted
}

// run joins and joins again until ctx ends.
func (m *member) run(ctx context.Context) {
	defer m.metrics.subscribed.Set(0)
	defer m.leave()
	var failing backoff.Backoff
	var since time.Time // the first of the failures in a row
	for ctx.Err() == nil {
		topics := m.topics()
		m.metrics.subscribed.Set(float64(len(topics)))
		if len(topics) == 0 {
			m.leave()
			select {
			case <-m.wake:
			case <-ctx.Done():
			}
			continue
		}
		g, err := m.join(ctx, topics)
		if err == nil {
			failing, since = backoff.Backoff{}, time.Time{}
			m.conditions.report(partGroup, "", nil)
			err = m.serve(ctx, g)
			if after(err) < renew {
				continue
			}
		}
		if ctx.Err() != nil {
			return
		}
		if since.IsZero() {
			since = time.Now()
		}
		pause := failing.Next()
		switch after(err) {
		case renew:
			m.id = ""
		case fenced:
			m.id, pause = "", fencedPause
		default:
		}
		// A rebalance that overtakes another, the end of a session and a coordinator that moves are
		// normal.
		if after(err) >= fenced && !moving(err) || time.Since(since) > joinTimeout {
			m.conditions.report(partGroup, "", fmt.Errorf("join group %s: %w", m.options.GroupID, err))
		}
		_ = backoff.Sleep(ctx, pause) // the loop looks at ctx
	}
}

// join joins the group and returns the resulting generation. It returns at once when ctx ends.
func (m *member) join(ctx context.Context, topics []string) (*generation, error) {
	if m.routes == nil || !slices.Equal(m.routes.topics, topics) {
		m.closeRoutes()
		m.routes = m.cluster.route(topics)
		m.log.Info("joining the group", "group", m.options.GroupID, "topics", topics)
	}
	joined, err := m.joinGroup(ctx, topics)
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	var plan []syncgroup.RequestAssignment
	var counted counts
	if joined.LeaderID == joined.MemberID {
		if plan, counted, err = m.plan(ctx, joined.Members); err != nil {
			return nil, fmt.Errorf("assign partitions: %w", err)
		}
	}
	synced, err := askGroup[*syncgroup.Response](ctx, m, requestTimeout, &syncgroup.Request{
		GroupID: m.options.GroupID, GenerationID: joined.GenerationID, MemberID: m.id, GroupInstanceID: m.options.GroupInstanceID,
		Assignments: plan,
	}, 3)
	if err == nil {
		err = codeOf(synced.ErrorCode)
	}
	if err != nil {
		return nil, fmt.Errorf("sync: %w", err)
	}
	var mine consumer.Assignment
	if len(synced.Assignments) > 0 { // empty for a member without partitions
		if err := protocol.Unmarshal(synced.Assignments, 0, &mine); err != nil {
			return nil, fmt.Errorf("read the assignment: %w", err)
		}
	}
	assigned := map[string][]int{}
	for _, t := range mine.AssignedPartitions {
		for _, p := range t.Partitions {
			assigned[t.Topic] = append(assigned[t.Topic], int(p))
		}
	}
	return m.newGeneration(joined.GenerationID, topics, assigned, counted), nil
}

// joinGroup sends JoinGroup. A new member first gets only its id (KIP-394): a request that is lost
// while it waits for the other members would otherwise leave a member behind that does not exist.
func (m *member) joinGroup(ctx context.Context, topics []string) (*joingroup.Response, error) {
	metadata, err := protocol.Marshal(0, consumer.Subscription{Topics: topics})
	if err != nil {
		return nil, err
	}
	for {
		resp, err := askGroup[*joingroup.Response](ctx, m, joinPatience, &joingroup.Request{
			GroupID: m.options.GroupID, MemberID: m.id, GroupInstanceID: m.options.GroupInstanceID, ProtocolType: protocolType,
			SessionTimeoutMS: int32(m.options.SessionTimeout.Milliseconds()), RebalanceTimeoutMS: int32(joinTimeout.Milliseconds()),
			Protocols: []joingroup.RequestProtocol{{Name: assignor, Metadata: metadata}},
		}, 5)
		if err != nil {
			return nil, err
		}
		switch code := kafka.Error(resp.ErrorCode); {
		case code == 0:
			m.id = resp.MemberID
			return resp, nil
		case code == kafka.MemberIDRequired && m.id == "" && resp.MemberID != "":
			m.id = resp.MemberID
		default:
			return nil, code
		}
	}
}

// serve runs a generation. It returns the error that ended it; nil if this process ended it.
func (m *member) serve(ctx context.Context, g *generation) error {
	life, stop := context.WithCancel(ctx)
	defer stop()
	g.stop = stop
	beating, rest := context.WithCancel(context.WithoutCancel(ctx))
	var over error
	var beats sync.WaitGroup
	beats.Go(func() { over = m.beat(beating, g) })
	g.run(life)
	rest()
	beats.Wait()
	return over
}

// beat sends heartbeats until ctx ends, even while the generation drains, so that this does not
// cost the membership. It ends the generation if the coordinator says so, or has not answered for
// so long that it may have given the partitions to others, and returns why.
func (m *member) beat(ctx context.Context, g *generation) error {
	var why error
	answered := time.Now()
	for backoff.Sleep(ctx, m.options.SessionTimeout/5) == nil {
		resp, err := askGroup[*heartbeat.Response](ctx, m, m.options.SessionTimeout/2, &heartbeat.Request{
			GroupID: m.options.GroupID, GenerationID: g.id, MemberID: m.id, GroupInstanceID: m.options.GroupInstanceID,
		}, 3)
		if err == nil {
			// kafka-go takes the throttle time for the first field, but the code is: it is in the last
			// two bytes.
			err = codeOf(int16(resp.ThrottleTimeMs))
		}
		if ctx.Err() != nil {
			break
		}
		next := after(err)
		if next != retry {
			answered = time.Now()
		} else if time.Since(answered) < silentSessions*m.options.SessionTimeout {
			continue
		}
		if next == stay {
			continue
		}
		if why == nil {
			m.log.Info("the generation is over", "generation", g.id, "reason", err)
		}
		why = err
		g.stop()
		if next == renew || next == fenced {
			return why // there is no membership left
		}
	}
	return why
}

// leave leaves the group, so that the others need not wait for the end of the session. A static
// member does not leave: the group keeps its partitions for it until the session ends.
func (m *member) leave() {
	m.closeRoutes()
	m.conditions.forget(partGroup, "")
	m.conditions.forget(partCommit, "")
	if m.id != "" && m.options.GroupInstanceID == "" {
		req := &leavegroup.Request{GroupID: m.options.GroupID, MemberID: m.id}
		_, _ = askGroup[*leavegroup.Response](m.cluster.life, m, leavePatience, req, 2)
	}
	m.id = ""
}

func (m *member) closeRoutes() {
	if m.routes != nil {
		m.routes.close()
		m.routes = nil
	}
}

// askGroup sends a request to the group's coordinator. newest is the newest version of it that
// kafka-go encodes rightly.
func askGroup[A protocol.Message](ctx context.Context, m *member, patience time.Duration, msg protocol.Message, newest int16) (A, error) {
	return ask[A](ctx, m.cluster.control, patience, &groupRequest{request{Message: msg, newest: newest}, m.options.GroupID})
}
