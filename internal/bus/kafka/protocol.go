package kafka

import (
	"context"
	"io"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// request sends a message in a version of our choice. kafka-go takes the newest that it and the
// broker know, which fails for group requests: it encodes flexible versions wrongly (JoinGroup 6,
// SyncGroup 4). It also answers metadata requests from a cache. Both are avoided by a message that
// exchanges its own bytes.
type request struct {
	protocol.Message
	newest  int16
	version int16
}

// Required implements protocol.RawExchanger. common are the newest versions that kafka-go and the
// broker both know.
func (r *request) Required(common map[protocol.ApiKey]int16) bool {
	r.version = min(common[r.ApiKey()], r.newest)
	return true
}

// RawExchange implements protocol.RawExchanger.
func (r *request) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	resp, err := protocol.RoundTrip(rw, r.version, correlation, clientID, r.Message)
	return &answer{resp}, err
}

// answer hides a response from kafka-go, which would take it for the answer to a request of its
// own.
type answer struct{ protocol.Message }

// correlation identifies a request on its connection, which carries one at a time.
const correlation = 1

// groupRequest is a request to the coordinator of a group.
type groupRequest struct {
	request
	group string
}

// Group makes kafka-go look for the coordinator.
func (r *groupRequest) Group() string { return r.group }

// ask sends a request or a groupRequest, whose answer is an A.
func ask[A protocol.Message](
	ctx context.Context, r *route, patience time.Duration, req protocol.Message,
) (a A, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	resp, err := r.Transport.RoundTrip(ctx, r.Addr, req)
	if err != nil {
		return a, err
	}
	return resp.(*answer).Message.(A), nil
}

// codeOf returns the error that a code in an answer stands for; nil for none.
func codeOf(code int16) error {
	if code == 0 {
		return nil
	}
	return kafka.Error(code)
}
