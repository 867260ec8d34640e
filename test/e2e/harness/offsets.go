//go:build e2e

package harness

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Committed returns the group's committed offsets in a topic by partition.
func (p *Producer) Committed(base string) (map[int32]int64, error) {
	all, err := p.Admin.FetchOffsets(context.Background(), p.s.group)
	if err == nil {
		err = all.Error()
	}
	at := map[int32]int64{}
	for partition, o := range all[p.s.Topic(base)] {
		at[partition] = o.At
	}
	return at, err
}

// Ends returns the end offsets of a topic by partition.
func (p *Producer) Ends(base string) (map[int32]int64, error) {
	all, err := p.Admin.ListEndOffsets(context.Background(), p.s.Topic(base))
	if err == nil {
		err = all.Error()
	}
	at := map[int32]int64{}
	for partition, o := range all[p.s.Topic(base)] {
		at[partition] = o.Offset
	}
	return at, err
}

// AllCommitted returns an error unless the group has committed the end offset of every partition.
func (p *Producer) AllCommitted(base string) error {
	ends, err := p.Ends(base)
	if err != nil {
		return err
	}
	at, err := p.Committed(base)
	if err == nil && !maps.Equal(at, ends) {
		err = fmt.Errorf("committed by partition: %v, ends: %v", at, ends)
	}
	return err
}

// WaitCommitted waits until the group has committed a topic to its end, and returns how long that
// took.
func (p *Producer) WaitCommitted(limit time.Duration, base string) time.Duration {
	p.T.Helper()
	return Eventually(p.T, limit, "offsets of "+base, func() error { return p.AllCommitted(base) })
}

// Members returns how many members the consumer group has.
func (p *Producer) Members() (int, error) {
	request := kmsg.NewPtrDescribeGroupsRequest()
	request.Groups = []string{p.s.group}
	response, err := request.RequestWith(context.Background(), p.Client)
	if err != nil {
		return 0, err
	}
	return len(response.Groups[0].Members), nil
}

// WatchOffsets polls the group's committed offsets until the end of the test and fails it if one
// ever goes back.
func (s *Site) WatchOffsets(bases ...string) {
	s.T.Helper()
	watcher := NewProducer(s)
	quit := make(chan struct{})
	var watching sync.WaitGroup
	looks, fault := 0, ""
	watching.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		highest := map[string]int64{}
		for {
			select {
			case <-tick.C:
			case <-quit:
				return
			}
			for _, base := range bases {
				at, err := watcher.Committed(base)
				if err != nil {
					continue
				}
				looks++
				for partition, offset := range at {
					key := fmt.Sprintf("%s/%d", base, partition)
					if offset < highest[key] && fault == "" {
						fault = fmt.Sprintf("the position of %s went back from %d to %d at %s", key, highest[key], offset, time.Now().Format(time.TimeOnly))
					}
					highest[key] = max(highest[key], offset)
				}
			}
		}
	})
	s.T.Cleanup(func() {
		close(quit)
		watching.Wait()
		if fault != "" {
			s.T.Error(fault)
		}
		if looks < 10 {
			s.T.Errorf("the positions were looked at %d times only", looks)
		}
	})
}

// LagSample is how far the group is behind in each partition.
type LagSample struct {
	At  time.Time
	lag map[int32]int64
}

// Worst returns the lag of the partition that is furthest behind.
func (l LagSample) Worst() (most int64) {
	for _, n := range l.lag {
		most = max(most, n)
	}
	return most
}

// lagNow asks Kafka for the lag: end offsets minus committed offsets.
func (p *Producer) lagNow(base string) (LagSample, error) {
	sample := LagSample{At: time.Now(), lag: map[int32]int64{}}
	at, err := p.Committed(base)
	if err != nil {
		return sample, err
	}
	ends, err := p.Ends(base)
	for partition, end := range ends {
		sample.lag[partition] = end - at[partition]
	}
	return sample, err
}

// WatchLag samples the lag every half second until stop is called, which returns the samples.
func (p *Producer) WatchLag(base string) (stop func() []LagSample) {
	ctx, cancel := context.WithCancel(context.Background())
	p.T.Cleanup(cancel)
	var samples []LagSample
	var watching sync.WaitGroup
	watching.Go(func() {
		ticker := time.NewTicker(500 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if sample, err := p.lagNow(base); err == nil {
				samples = append(samples, sample)
			}
		}
	})
	return func() []LagSample {
		cancel()
		watching.Wait()
		return samples
	}
}
