package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
)

// Undecodable is a record of the bus that can never be read.
type Undecodable struct {
	Topic      string // at most 249 ASCII characters
	Partition  int32
	Offset     int64
	Time       time.Time
	Reason     string // one of a few names of at most 32 ASCII characters
	Headers    []bus.Header
	Key, Value []byte // NULL if nil
}

const (
	maxRecordKey     = 1<<16 - 1
	maxRecordHeaders = 1 << 20
)

// InsertUndecodable keeps a record. The same record again (topic, partition, offset, time) changes
// nothing. What does not fit is cut: the end of the value (the row has its real size), the end of a
// key over 64 KiB, and the last headers if they take more than 1 MiB.
func (s *Store) InsertUndecodable(ctx context.Context, u Undecodable) error {
	what := fmt.Sprintf("keep record %d of topic %q, partition %d", u.Offset, u.Topic, u.Partition)
	if len(u.Topic) > 249 || !isASCII(u.Topic) || len(u.Reason) > 32 || !isASCII(u.Reason) {
		return fmt.Errorf("%s: topic or reason is not short ASCII text", what)
	}
	// Every byte may need an escape in the statement.
	packet := s.maxPacket()
	headers, err := encodeHeaders(u.Headers, min(maxRecordHeaders, packet/8))
	if err != nil {
		return fmt.Errorf("%s: encode headers: %w", what, err)
	}
	key := u.Key[:min(len(u.Key), maxRecordKey, packet/16)]
	value := u.Value[:max(0, min(len(u.Value), (packet-overhead)/2-len(headers)-len(key), maxMediumBlob))]
	at := timeOrNull(u.Time, time.Millisecond)
	if at == nil {
		// The column is part of the key and never NULL; a constant keeps it the same record.
		at = time.Unix(0, 0).UTC()
	}
	_, err = s.exec(ctx, what, `INSERT INTO webhook_dispatcher_undecodable
  (topic, partition_id, record_offset, record_time, reason, headers, record_key, record_value, value_size, created_at)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, UTC_TIMESTAMP(3)) ON DUPLICATE KEY UPDATE id = id`,
		u.Topic, u.Partition, u.Offset, at, u.Reason, headers, key, value, min(int64(len(u.Value)), math.MaxUint32))
	return err
}

// encodeHeaders returns the JSON array of as many headers as fit limit bytes.
func encodeHeaders(headers []bus.Header, limit int) ([]byte, error) {
	out := []byte{'['}
	for i, header := range headers {
		one, err := json.Marshal(header)
		if err != nil {
			return nil, err
		}
		if len(out)+len(one)+2 > limit {
			break
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, one...)
	}
	return append(out, ']'), nil
}

// KeptRecord is an undecodable record as the store holds it.
type KeptRecord struct {
	Undecodable // in a list without Headers, Key and Value

	RowID     uint64
	ValueSize int64 // bytes on the bus; more than Value has where that was cut
	CreatedAt time.Time
}

const recordColumns = "SELECT id, topic, partition_id, record_offset, record_time, reason, value_size, created_at"

func scanRecord(rows *sql.Rows, r *KeptRecord, more ...any) error {
	return rows.Scan(append([]any{&r.RowID, &r.Topic, &r.Partition, &r.Offset, &r.Time, &r.Reason, &r.ValueSize, &r.CreatedAt}, more...)...)
}

// ListUndecodable returns up to limit kept records, the newest first, and whether there are more;
// only those kept for reason unless it is "". Headers, keys and values are not read. limit must be
// above 0.
func (s *Store) ListUndecodable(ctx context.Context, reason string, limit int) (found []KeptRecord, more bool, err error) {
	const what = "list undecodable records"
	if limit <= 0 {
		return nil, false, fmt.Errorf("%s: the limit is %d, want 1 or more", what, limit)
	}
	where, args := byReason(reason)
	found, err = read(ctx, s, what, func(rows *sql.Rows, r *KeptRecord) error { return scanRecord(rows, r) },
		recordColumns+" FROM webhook_dispatcher_undecodable WHERE "+where+" ORDER BY id DESC LIMIT ?", append(args, limit+1)...)
	return found[:min(limit, len(found))], len(found) > limit, err
}

// UndecodableIDs returns the numbers of up to limit kept records, 500 at most, in rising order:
// those above after and at most upTo, and only those kept for reason unless it is "".
func (s *Store) UndecodableIDs(ctx context.Context, reason string, after, upTo uint64, limit int) ([]uint64, error) {
	where, args := byReason(reason)
	return read(ctx, s, "read the numbers of undecodable records", scalar[uint64],
		"SELECT id FROM webhook_dispatcher_undecodable WHERE "+where+" AND id > ? AND id <= ? ORDER BY id LIMIT ?",
		append(args, after, upTo, capped(limit))...)
}

// byReason returns the condition for records kept for reason.
func byReason(reason string) (where string, args []any) {
	switch {
	case reason == "":
		return "TRUE", nil
	case !isASCII(reason):
		return "FALSE", nil // the server would refuse to compare it with the column
	}
	return "reason = ?", []any{reason}
}

// UndecodableRow returns a kept record by its row's number, and whether there is one.
func (s *Store) UndecodableRow(ctx context.Context, row uint64) (KeptRecord, bool, error) {
	return readOne(ctx, s, fmt.Sprintf("read undecodable record %d", row), func(rows *sql.Rows, r *KeptRecord) error {
		var headers []byte
		if err := scanRecord(rows, r, &headers, &r.Key, &r.Value); err != nil {
			return err
		}
		if json.Unmarshal(headers, &r.Headers) != nil {
			return errors.New("its headers are not the JSON that this program writes")
		}
		return nil
	}, recordColumns+", headers, record_key, record_value FROM webhook_dispatcher_undecodable WHERE id = ?", row)
}
