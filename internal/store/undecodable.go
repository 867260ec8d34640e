package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// RecordHeader is a header of a record. In JSON the value is base64, and invalid UTF-8 in the key
// becomes U+FFFD.
type RecordHeader struct {
	Key   string `json:"key"`
	Value []byte `json:"value"`
}

// Undecodable is a record that can never be decoded.
type Undecodable struct {
	Topic     string // at most 249 ASCII characters
	Partition int32
	Offset    int64
	Time      time.Time
	Reason    string // one of a few names of at most 32 ASCII characters
	Headers   []RecordHeader
	Key       []byte // may be nil
	Value     []byte // may be nil
}

const (
	maxRecordKey     = 1<<16 - 1
	maxRecordHeaders = 1 << 20
)

// InsertUndecodable keeps a record; repeats (same topic, partition, offset and time) change
// nothing. Parts that do not fit are cut: the end of the value (the row has its real size), the key
// after 64 KiB, and headers after 1 MiB.
func (s *Store) InsertUndecodable(ctx context.Context, u Undecodable) error {
	what := fmt.Sprintf("keep record %d of topic %q, partition %d", u.Offset, u.Topic, u.Partition)
	if len(u.Topic) > 249 || !isASCII(u.Topic) || len(u.Reason) > 32 || !isASCII(u.Reason) {
		return fmt.Errorf("%s: topic or reason is not short ASCII text", what)
	}
	// Every byte may be escaped.
	packet := s.maxPacket()
	headers, err := encodeHeaders(u.Headers, min(maxRecordHeaders, packet/8))
	if err != nil {
		return fmt.Errorf("%s: encode headers: %w", what, err)
	}
	var key, value any
	room := packet - overhead - 2*len(headers)
	if u.Key != nil {
		cut := u.Key[:min(len(u.Key), maxRecordKey, packet/16)]
		key, room = cut, room-2*len(cut)
	}
	if u.Value != nil {
		value = u.Value[:max(0, min(len(u.Value), room/2, maxMediumBlob))]
	}
	at := timeOrNull(u.Time, time.Millisecond)
	if at == nil {
		// The column is in the key and not nullable; a constant still detects repeats.
		at = time.Unix(0, 0).UTC()
	}
	_, err = s.exec(ctx, what, `INSERT INTO webhook_dispatcher_undecodable
  (topic, partition_id, record_offset, record_time, reason, headers, record_key, record_value, value_size, created_at)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, UTC_TIMESTAMP(3)) ON DUPLICATE KEY UPDATE id = id`,
		u.Topic, u.Partition, u.Offset, at, u.Reason, headers, key, value, min(int64(len(u.Value)), math.MaxUint32))
	return err
}

// encodeHeaders returns a JSON array of as many headers as fit limit bytes.
func encodeHeaders(headers []RecordHeader, limit int) ([]byte, error) {
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
	Undecodable // lists omit Headers, Key and Value

	RowID     uint64
	ValueSize int64 // on the bus; larger than Value if that was cut
	CreatedAt time.Time
}

// ListUndecodable returns up to limit (above 0) kept records with the reason ("" for any), newest
// first and without headers, keys and values, and whether there are more.
func (s *Store) ListUndecodable(ctx context.Context, reason string, limit int) (found []KeptRecord, more bool, err error) {
	const what = "list undecodable records"
	if limit <= 0 {
		return nil, false, fmt.Errorf("%s: the limit is %d, want 1 or more", what, limit)
	}
	statement := `SELECT id, topic, partition_id, record_offset, record_time, reason, value_size, created_at
  FROM webhook_dispatcher_undecodable `
	var args []any
	if reason != "" {
		if !isASCII(reason) {
			return nil, false, nil // the server would refuse the comparison
		}
		statement, args = statement+"WHERE reason = ? ", append(args, reason)
	}
	rows, err := s.db.QueryContext(ctx, statement+"ORDER BY id DESC LIMIT ?", append(args, limit+1)...)
	found, err = collect(rows, err, func(rows *sql.Rows, r *KeptRecord) error {
		return rows.Scan(&r.RowID, &r.Topic, &r.Partition, &r.Offset, &r.Time, &r.Reason, &r.ValueSize, &r.CreatedAt)
	})
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", what, clean(err))
	}
	return found[:min(limit, len(found))], len(found) > limit, nil
}

// UndecodableRow returns a kept record by its number, and whether it exists.
func (s *Store) UndecodableRow(ctx context.Context, row uint64) (KeptRecord, bool, error) {
	what := fmt.Sprintf("read undecodable record %d", row)
	rows, err := s.db.QueryContext(ctx, `SELECT id, topic, partition_id, record_offset, record_time, reason, value_size, created_at,
  headers, record_key, record_value FROM webhook_dispatcher_undecodable WHERE id = ?`, row)
	var headers []byte
	found, err := collect(rows, err, func(rows *sql.Rows, r *KeptRecord) error {
		return rows.Scan(&r.RowID, &r.Topic, &r.Partition, &r.Offset, &r.Time, &r.Reason, &r.ValueSize, &r.CreatedAt,
			&headers, &r.Key, &r.Value)
	})
	if err != nil {
		return KeptRecord{}, false, fmt.Errorf("%s: %w", what, clean(err))
	}
	if len(found) == 0 {
		return KeptRecord{}, false, nil
	}
	if err := json.Unmarshal(headers, &found[0].Headers); err != nil {
		return KeptRecord{}, false, fmt.Errorf("%s: its headers are not the JSON that this program writes", what)
	}
	return found[0], true, nil
}
