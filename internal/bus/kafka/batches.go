package kafka

import (
	"encoding/binary"
	"errors"
	"io"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"
)

// fetchRequest is a fetch of one partition that also reads what kafka-go leaves out of the answer:
// the heads of the batches.
type fetchRequest struct {
	*fetch.Request
	version int16
	heads   []batchHead
}

// batchHead is what the head of a batch says about its records.
type batchHead struct {
	base, last int64 // the offsets that the batch covers; compaction may have removed records at both ends
	records    int32
	appended   time.Time // the time of all its records if the topic has LogAppendTime; zero if not
}

// Required implements protocol.RawExchanger. Version 4 is the first with batches.
func (r *fetchRequest) Required(common map[protocol.ApiKey]int16) bool {
	r.version, r.heads = common[protocol.Fetch], nil
	return r.version >= 4
}

// RawExchange implements protocol.RawExchanger.
func (r *fetchRequest) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	if err := protocol.WriteRequest(rw, r.version, correlation, clientID, r.Request); err != nil {
		return nil, err
	}
	from, ok := rw.(peeker)
	if !ok {
		return nil, errors.New("kafka-go's connection has no Peek any more")
	}
	t := &tap{peeker: from, need: r.beforeAborted()}
	if t.behind = 0; r.version >= 11 {
		t.behind = 4 // the preferred replica
	}
	_, resp, err := protocol.ReadResponse(t, protocol.Fetch, r.version)
	r.heads = t.heads
	return resp, err
}

// beforeAborted returns how many bytes an answer has up to and with the number of aborted
// transactions, when it holds the one partition that was asked for. See
// https://kafka.apache.org/protocol#The_Messages_Fetch.
func (r *fetchRequest) beforeAborted() int {
	n := 4 + 4 + 4 + 4 + 2 + len(r.Topics[0].Topic) + 4 + 4 + 2 + 8 + 8 + 4
	if r.version >= 5 {
		n += 8 // log start
	}
	if r.version >= 7 {
		n += 2 + 4 // error, session
	}
	return n
}

// peeker is a connection of kafka-go.
type peeker interface {
	io.Reader
	Peek(n int) ([]byte, error)
}

// tap passes an answer through and notes the heads of its batches. It has Peek and Discard because
// kafka-go looks for them: without, it puts one reader on the other for each batch.
type tap struct {
	peeker

	heads  []batchHead
	behind int // bytes between the aborted transactions and the size of the records

	inside     bool // of the records
	off        bool // a message set of an old format: it has no such head
	skip, need int
	have       []byte
}

// headSize is how long the head of a batch is, up to and with the number of its records.
const headSize = 61

// Read implements io.Reader.
func (t *tap) Read(p []byte) (int, error) {
	n, err := t.peeker.Read(p)
	for seen := p[:n]; len(seen) > 0 && !t.off; {
		if t.skip > 0 {
			n := min(t.skip, len(seen))
			t.skip, seen = t.skip-n, seen[n:]
			continue
		}
		n := min(t.need-len(t.have), len(seen))
		t.have, seen = append(t.have, seen[:n]...), seen[n:]
		if len(t.have) == t.need {
			t.note()
			t.need, t.have = headSize, t.have[:0]
		}
	}
	return n, err
}

// Discard reads n bytes.
func (t *tap) Discard(n int) (int, error) {
	if n <= 0 {
		return 0, nil
	}
	read, err := io.CopyN(io.Discard, t, int64(n))
	return int(read), err
}

// note is called with the bytes needed: first what comes before the aborted transactions, then one
// head after the other.
func (t *tap) note() {
	if !t.inside {
		aborted := int32(binary.BigEndian.Uint32(t.have[t.need-4:]))
		t.inside, t.skip = true, 16*int(max(aborted, 0))+t.behind+4
		return
	}
	const magic, attributes, lastDelta, maxTime, records = 16, 21, 23, 35, 57
	if t.have[magic] != 2 {
		t.off = true
		return
	}
	size := int32(binary.BigEndian.Uint32(t.have[8:]))
	h := batchHead{base: int64(binary.BigEndian.Uint64(t.have)), records: int32(binary.BigEndian.Uint32(t.have[records:]))}
	h.last = h.base + int64(int32(binary.BigEndian.Uint32(t.have[lastDelta:])))
	if binary.BigEndian.Uint16(t.have[attributes:])&(1<<3) != 0 {
		h.appended = time.UnixMilli(int64(binary.BigEndian.Uint64(t.have[maxTime:])))
	}
	t.heads = append(t.heads, h)
	t.skip = max(12+int(size)-headSize, 0)
}
