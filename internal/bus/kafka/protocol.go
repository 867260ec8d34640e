package kafka

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/heartbeat"
)

// request sends a message in a version of our choice. kafka-go takes the newest that it and the
// broker know, which fails for group requests: it encodes flexible versions wrongly (JoinGroup 6,
// SyncGroup 4) and reads the error code from the wrong place (Heartbeat 1, LeaveGroup 1). It also
// answers metadata requests from a cache. All of that is avoided by a message that exchanges its
// own bytes.
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
// own. route.send unwraps it.
type answer struct{ protocol.Message }

// correlation identifies a request on its connection, which carries one at a time.
const correlation = 1

// groupRequest is sent to the coordinator of a group.
type groupRequest struct {
	request
	group string
}

// Group makes kafka-go look for the coordinator.
func (r *groupRequest) Group() string { return r.group }

// codeRequest is a group request whose answer ends with an error code; nothing else in it matters.
type codeRequest struct{ groupRequest }

// RawExchange implements protocol.RawExchanger. The answer is a *heartbeat.Response for every
// request.
func (r *codeRequest) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	if err := protocol.WriteRequest(rw, r.version, correlation, clientID, r.Message); err != nil {
		return nil, err
	}
	var head [4]byte
	if _, err := io.ReadFull(rw, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size < 6 || size > 64 {
		return nil, fmt.Errorf("an answer of %d bytes", size)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(rw, body); err != nil {
		return nil, err
	}
	return &heartbeat.Response{ErrorCode: int16(binary.BigEndian.Uint16(body[size-2:]))}, nil
}
