package kafka

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/offsetcommit"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus/checkpoint"
)

// generation is one assignment of partitions to this process. Its partitions, checkpoints and
// budget end with it, so nothing that is settled late can touch the next one.
type generation struct {
	*member
	memberID string
	id       int32
	topics   []string
	assigned map[string][]int
	count    int // of the partitions assigned
	budget   *budget

	// commits holds a token while a commit is on its way. They must not overtake each other: a
	// delayed one would move positions back.
	commits chan struct{}
	rejoin  chan struct{} // closed to end the generation because other topics or partitions exist
	once    sync.Once
	// early holds a token if the next commit should not wait for the timer.
	early    chan struct{}
	releases atomic.Int64
	handing  sync.WaitGroup // partitions' goroutines
	seeking  sync.WaitGroup // searches for starting positions

	mu         sync.Mutex // guards what follows
	closed     bool
	partitions []*partition
}

func (m *member) newGeneration(id int32, topics []string, assigned map[string][]int) *generation {
	count := 0
	for _, partitions := range assigned {
		count += len(partitions)
	}
	return &generation{
		member: m, memberID: m.id, id: id, topics: topics, assigned: assigned, count: count, budget: newBudget(m.options.Budget, count),
		commits: make(chan struct{}, 1), rejoin: make(chan struct{}), early: make(chan struct{}, 1),
	}
}

// run lives as long as the generation. The member joins the next one only after it has returned, so
// what it does after ctx has ended happens before another member gets the partitions.
func (g *generation) run(ctx context.Context) {
	work, stop := context.WithCancel(ctx)
	defer stop()
	g.metrics.generations.Inc()
	g.seeking.Go(func() { g.start(work) })
	g.metrics.partitions.Set(float64(g.count))
	g.current.Store(g)
	var joining sync.WaitGroup
	joining.Go(func() {
		g.seeking.Wait()
		if work.Err() == nil {
			g.joined.Store(true)
		}
	})
	g.log.Info("generation begins", "generation", g.id, "partitions", g.count)
	defer g.log.Info("generation has ended", "generation", g.id)

	g.commitOnTimer(ctx)
	ended := time.Now()
	stop()
	g.end(ended)
	g.current.CompareAndSwap(g, nil)
	g.metrics.partitions.Set(0)
	g.balancer.reset()
	joining.Wait() // which waits for seeking
}

// add starts a partition unless the generation is over.
func (g *generation) add(ctx context.Context, topic string, id int, position, committed int64) {
	p := &partition{
		growth: firstGrowth, released: g.released,
		topic: topic, id: id, share: &share{budget: g.budget}, wake: make(chan struct{}, 1),
		reader:  &reader{client: g.routes.Client, topic: topic, partition: id},
		handler: g.options.Handler, options: &g.options, metrics: g.metrics, conditions: g.conditions, log: g.log,
	}
	p.begin(position, committed)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	g.partitions = append(g.partitions, p)
	g.handing.Go(func() { p.run(ctx) })
}

// leave ends the generation from this side, to have the partitions assigned again.
func (g *generation) leave() { g.once.Do(func() { close(g.rejoin) }) }

func (g *generation) lag() (sum int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.partitions {
		sum += p.lag()
	}
	return sum
}

// released brings the next commit forward after many releases.
func (g *generation) released() {
	if g.releases.Add(1)%commitAfter != 0 {
		return
	}
	select {
	case g.early <- struct{}{}:
	default:
	}
}

// commitOnTimer returns when the generation is over.
func (g *generation) commitOnTimer(ctx context.Context) {
	ticker := time.NewTicker(g.options.CommitInterval)
	defer ticker.Stop()
	recommitted := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.rejoin:
			return
		case <-ticker.C:
		case <-g.early:
		}
		all := time.Since(recommitted) >= g.options.RecommitInterval
		if g.commitWatermarks(ctx, all) && all {
			recommitted = time.Now()
		}
	}
}

// end settles what can be settled before the partitions are given up.
func (g *generation) end(since time.Time) {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	if g.count == 0 {
		return
	}
	drain, stop := context.WithDeadline(context.Background(), since.Add(drainTime))
	defer stop()
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		g.handing.Wait()
	}()
	select {
	case <-returned:
		if err := g.options.Handler.Drain(drain); err != nil {
			g.log.Warn("not all records could be settled before the generation ended; the rest will be read again", "error", err)
		}
	case <-drain.Done():
		g.log.Error("the handler does not return although its context has ended; its records will be read again")
	}
	last, stop := context.WithDeadline(context.Background(), since.Add(endTime))
	defer stop()
	g.commitWatermarks(last, false)
}

// commitWatermarks commits the positions that have moved, or all, and reports whether that
// succeeded.
func (g *generation) commitWatermarks(ctx context.Context, all bool) bool {
	type mark struct {
		tracker *checkpoint.Tracker
		next    int64
	}
	var marks []mark
	moved := map[string]map[int]int64{}
	g.mu.Lock()
	for _, p := range g.partitions {
		tracker := p.tracker.Load()
		next, changed := tracker.Watermark()
		if !changed && !all {
			continue
		}
		if moved[p.topic] == nil {
			moved[p.topic] = map[int]int64{}
		}
		moved[p.topic][p.id] = next
		marks = append(marks, mark{tracker, next})
	}
	g.mu.Unlock()
	if len(marks) == 0 {
		return true
	}
	if err := g.commit(ctx, moved); err != nil {
		return false
	}
	for _, m := range marks {
		m.tracker.Committed(m.next)
	}
	return true
}

// commit commits in this generation or not at all. It returns when ctx ends even if the broker has
// not answered; the request may then still be on its way, and the next commit waits for it.
func (g *generation) commit(ctx context.Context, offsets map[string]map[int]int64) error {
	select {
	case g.commits <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	result := make(chan error, 1)
	go func() {
		defer func() { <-g.commits }()
		result <- g.commitEach(offsets)
	}()
	var err error
	select {
	case err = <-result:
	case <-ctx.Done():
		select { // both may be ready
		case err = <-result:
		default:
			err = ctx.Err()
		}
	}
	switch {
	case err == nil:
		g.metrics.commitOK.Inc()
		g.conditions.clear(partCommit, "")
	case generationOver(err):
		g.metrics.commitEnded.Inc()
		g.log.Warn("the generation is over; records that were not committed will be read again", "generation", g.id, "error", err)
	case ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded):
		// Cut short by the end of the generation. The last commit follows, which has a deadline and
		// reports its error.
	default:
		g.metrics.commitFailed.Inc()
		g.conditions.report(partCommit, "", err)
	}
	return err
}

// commitEach commits everything at once. If that fails although the generation is not over, it
// commits topic by topic, so that a deleted topic does not hold up the others.
func (g *generation) commitEach(offsets map[string]map[int]int64) error {
	err := g.send(offsets)
	var code kafka.Error
	if err == nil || generationOver(err) || !errors.As(err, &code) || len(offsets) == 1 {
		return err
	}
	var failed error
	for topic, partitions := range offsets {
		if err := g.send(map[string]map[int]int64{topic: partitions}); err != nil {
			if generationOver(err) {
				return err
			}
			if !errors.Is(err, kafka.UnknownTopicOrPartition) { // deleted: nothing is left to commit for it
				failed = err
			}
		}
	}
	return failed
}

// send commits in one request, for as long as that takes: a commit that was given up might be
// applied after a later one.
func (g *generation) send(offsets map[string]map[int]int64) error {
	req := &offsetcommit.Request{
		GroupID: g.options.GroupID, GenerationID: g.id, MemberID: g.memberID, GroupInstanceID: g.options.GroupInstanceID, RetentionTimeMs: -1,
	}
	for topic, partitions := range offsets {
		t := offsetcommit.RequestTopic{Name: topic}
		for id, offset := range partitions {
			t.Partitions = append(t.Partitions, offsetcommit.RequestPartition{
				PartitionIndex: int32(id), CommittedOffset: offset, CommittedLeaderEpoch: -1,
			})
		}
		req.Topics = append(req.Topics, t)
	}
	answer, err := g.ask(g.cluster.life, requestTimeout, req, 7)
	if err != nil {
		return err
	}
	for _, t := range answer.(*offsetcommit.Response).Topics {
		for _, p := range t.Partitions {
			if p.ErrorCode != 0 {
				err = kafka.Error(p.ErrorCode)
			}
			if generationOver(err) {
				return err
			}
		}
	}
	return err
}

// generationOver reports whether the broker has refused a commit because the partitions belong to
// another generation.
func generationOver(err error) bool {
	return errors.Is(err, kafka.IllegalGeneration) || errors.Is(err, kafka.UnknownMemberId) ||
		errors.Is(err, kafka.RebalanceInProgress) || errors.Is(err, kafka.FencedInstanceID)
}

// current is the generation that runs, if any.
type current = atomic.Pointer[generation]
