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
	count    int    // of the partitions assigned
	counted  counts // of the partitions of all members, if this process assigned them
	budget   *budget
	stop     context.CancelFunc // ends it, to join again

	// commits holds a token while a commit is on its way. They must not overtake each other: a
	// delayed one would move positions back.
	commits chan struct{}
	// early holds a token if the next commit should not wait for the timer.
	early    chan struct{}
	releases atomic.Int64
	handing  sync.WaitGroup // partitions' goroutines
	seeking  sync.WaitGroup // the search for starting positions

	mu         sync.Mutex // guards what follows
	closed     bool
	partitions []*partition
}

func (m *member) newGeneration(id int32, topics []string, assigned map[string][]int, counted counts) *generation {
	count := 0
	for _, partitions := range assigned {
		count += len(partitions)
	}
	return &generation{
		member: m, memberID: m.id, id: id, topics: topics, assigned: assigned, count: count, counted: counted,
		budget: newBudget(m.options.Budget, count), commits: make(chan struct{}, 1), early: make(chan struct{}, 1),
	}
}

// run lives as long as the generation. The member joins the next one only after it has returned, so
// what it does after ctx has ended happens before another member gets the partitions.
func (g *generation) run(ctx context.Context) {
	g.metrics.generations.Inc()
	g.metrics.partitions.Set(float64(g.count))
	g.seeking.Go(func() {
		g.start(ctx)
		if ctx.Err() == nil {
			g.joined.Store(true)
		}
	})
	g.current.Store(g)
	g.log.Info("generation begins", "generation", g.id, "partitions", g.count)
	defer g.log.Info("generation has ended", "generation", g.id)

	g.commitOnTimer(ctx)
	g.settle(time.Now())
	g.current.CompareAndSwap(g, nil)
	g.metrics.partitions.Set(0)
	g.seeking.Wait()
}

// add starts a partition at its committed position, unless the generation is over.
func (g *generation) add(ctx context.Context, topic string, id int, committed int64) {
	p := &partition{
		generation: g, topic: topic, id: id, growth: firstGrowth, share: &share{budget: g.budget}, wake: make(chan struct{}, 1),
		reader: &reader{client: g.routes.Client, topic: topic, partition: id},
	}
	p.begin(committed, committed)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	g.partitions = append(g.partitions, p)
	g.handing.Go(func() { p.run(ctx) })
}

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
	if g.releases.Add(1)%commitAfter == 0 {
		signal(g.early)
	}
}

// signal puts a token into a channel that has room for one, unless there is one already.
func signal(token chan<- struct{}) {
	select {
	case token <- struct{}{}:
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
		case <-ticker.C:
		case <-g.early:
		}
		all := time.Since(recommitted) >= g.options.RecommitInterval
		if g.commitWatermarks(ctx, all) && all {
			recommitted = time.Now()
		}
	}
}

// settle settles what can be settled before the partitions are given up.
func (g *generation) settle(since time.Time) {
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
	marks := map[*checkpoint.Tracker]int64{}
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
		marks[tracker] = next
	}
	g.mu.Unlock()
	if len(marks) == 0 {
		return true
	}
	if err := g.commit(ctx, moved); err != nil {
		return false
	}
	for tracker, next := range marks {
		tracker.Committed(next)
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
		result <- g.send(offsets)
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
		g.conditions.report(partCommit, "", nil)
	case after(err).over():
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

// send commits in one request, for as long as that takes: a commit that was given up might be
// applied after a later one.
func (g *generation) send(offsets map[string]map[int]int64) error {
	req := &offsetcommit.Request{
		GroupID: g.options.GroupID, GenerationID: g.id, MemberID: g.memberID,
		GroupInstanceID: g.options.GroupInstanceID, RetentionTimeMs: -1,
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
	resp, err := askGroup[*offsetcommit.Response](g.cluster.life, g.member, requestTimeout, req, 7)
	if err != nil {
		return err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			switch code := codeOf(p.ErrorCode); {
			case code == nil:
			case after(code).over():
				return code
			case errors.Is(code, kafka.UnknownTopicOrPartition) && len(offsets) > 1:
				// The topic was deleted: nothing is left to commit for it, and the broker has taken
				// the others.
			default:
				err = code
			}
		}
	}
	return err
}
