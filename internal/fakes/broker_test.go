package fakes

import (
	"context"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestBrokerKeepsItsDataDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx := context.Background()
	b, err := StartBroker(BrokerOptions{Topics: map[string]int32{"t": 2}, DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(ctx, Message{
		Topic: "t", Partition: 1, Value: []byte("v"),
		Headers: []kgo.RecordHeader{{Key: "k", Value: []byte("v")}},
	}); err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(ctx, "g", "t", 1, 1); err != nil {
		t.Fatal(err)
	}
	b.Close()
	b, err = StartBroker(BrokerOptions{Topics: map[string]int32{"t": 2}, DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for partition, want := range map[int32]int64{0: -1, 1: 1} {
		if got, err := b.Committed(ctx, "g", "t", partition); err != nil || got != want {
			t.Errorf("partition %d: committed %d (%v), want %d", partition, got, err, want)
		}
	}
	if got := b.Cluster().PartitionInfo("t", 1).HighWatermark; got != 1 {
		t.Errorf("high watermark %d", got)
	}
	if err := b.SetPartitions(ctx, "t", 3); err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(ctx, Message{Topic: "t", Partition: 2}); err != nil {
		t.Fatal(err)
	}
}
