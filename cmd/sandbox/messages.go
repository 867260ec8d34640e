package main

import (
	"crypto/rand"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/fakes"
)

// captured holds records of the platform's own producer with their schemas, in the order in which
// they are published.
//
//go:embed messages/*.json
var captured embed.FS

// topicPrefix is the EVENT_BUS_TOPIC_PREFIX of the captured platform.
const topicPrefix = "prod"

func loadMessages() ([]*fakes.Captured, error) {
	names, err := fs.Glob(captured, "messages/*.json")
	if err != nil {
		return nil, err
	}
	all := make([]*fakes.Captured, len(names))
	for i, name := range names {
		text, err := captured.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if all[i], err = fakes.ParseCaptured(text); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return all, nil
}

func topics(messages []*fakes.Captured) []string {
	var all []string
	for _, m := range messages {
		all = append(all, m.Topic)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// baseTopics returns topics without the prefix, for WEBHOOK_DISPATCHER_TOPICS.
func baseTopics(full []string) []string {
	base := make([]string, len(full))
	for i, topic := range full {
		base[i] = strings.TrimPrefix(topic, topicPrefix+"-")
	}
	return base
}

// newEventID returns a UUID, as the platform uses.
func newEventID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, as documented
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}
