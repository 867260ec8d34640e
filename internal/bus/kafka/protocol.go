package kafka

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/heartbeat"
)

// request sends a message in a version that we choose. kafka-go's own choice, the newest that it and the broker have in
// common, is wrong for group requests: it writes the compact versions as the others (joingroup 6, syncgroup 4), reads an error
// code from the wrong place (heartbeat 1, leavegroup 1), and answers metadata requests from a cache. A message that
// exchanges its own bytes gets around all of that.
type request struct {
	protocol.Message
	newest  int16
	version int16
}

// Required is called before each exchange with the newest versions that kafka-go and the broker have in common.
func (r *request) Required(common map[protocol.ApiKey]int16) bool {
	r.version = min(common[r.ApiKey()], r.newest)
	return true
}

// RawExchange sends the message and reads its answer.
func (r *request) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	resp, err := protocol.RoundTrip(rw, r.version, correlation, clientID, r.Message)
	return &answer{resp}, err
}

// answer hides the type of a response, which kafka-go would take for the answer to a request of its own. route.send undoes it.
type answer struct{ protocol.Message }

// correlation is the id of a request on its connection, which carries one at a time.
const correlation = 1

// groupRequest is sent to the coordinator of a group.
type groupRequest struct {
	request
	group string
}

// Group makes kafka-go look for the coordinator.
func (r *groupRequest) Group() string { return r.group }

// codeRequest is a group request of whose answer only the error code matters, which is its last field.
type codeRequest struct{ groupRequest }

// RawExchange implements protocol.RawExchanger; the answer is a *heartbeat.Response whatever was sent.
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
