package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/backoff"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// statement is SQL with its arguments.
type statement struct {
	text string
	args []any
}

// query runs a query and returns what scan makes of its rows.
func query[T any](
	ctx context.Context, db interface {
		QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	}, scan func(*sql.Rows, *T) error, text string, args ...any,
) (all []T, _ error) {
	rows, err := db.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // Err reports all there is.
	for rows.Next() {
		var one T
		if err := scan(rows, &one); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// read runs a query outside a transaction. what, here and below, is for errors and the log.
func read[T any](ctx context.Context, s *Store, what string, scan func(*sql.Rows, *T) error, text string, args ...any) ([]T, error) {
	all, err := query(ctx, s.db, scan, text, args...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, clean(err))
	}
	return all, nil
}

// readOne is read for a query of at most one row. It reports whether there is one.
func readOne[T any](
	ctx context.Context, s *Store, what string, scan func(*sql.Rows, *T) error, text string, args ...any,
) (one T, found bool, err error) {
	all, err := read(ctx, s, what, scan, text, args...)
	if len(all) > 0 {
		return all[0], true, nil
	}
	return one, false, err
}

// scalar scans a row of one column.
func scalar[T any](rows *sql.Rows, value *T) error { return rows.Scan(value) }

// scanID scans a row of one id, as an argument for another statement.
func scanID(rows *sql.Rows, id *any) error {
	var n uint64
	err := rows.Scan(&n)
	*id = n
	return err
}

// into scans a column of bytes into an array; NULL leaves the array as it is.
type into []byte

// Scan implements sql.Scanner.
func (b into) Scan(value any) error {
	raw, isBytes := value.([]byte)
	if value != nil && (!isBytes || len(raw) != len(b)) {
		return fmt.Errorf("%d bytes where %d were expected", len(raw), len(b))
	}
	copy(b, raw)
	return nil
}

// orZero scans a column into to; NULL makes it the zero value.
func orZero[T any](to *T) sql.Scanner { return zeroing[T]{to} }

type zeroing[T any] struct{ to *T }

// Scan implements sql.Scanner.
func (o zeroing[T]) Scan(value any) error {
	var null sql.Null[T]
	err := null.Scan(value)
	*o.to = null.V
	return err
}

// now returns the database's time, cut to a precision: the embedded database's clock is finer than
// UTC_TIMESTAMP should be.
func now(ctx context.Context, tx *sql.Tx, precision time.Duration) (now time.Time, err error) {
	err = tx.QueryRowContext(ctx, "SELECT UTC_TIMESTAMP(6)").Scan(&now)
	return now.Truncate(precision), err
}

// chunks yields items in runs that fit a statement: at most maxRows and, by their weight in bytes,
// half a packet, but at least one item.
func chunks[T any](s *Store, items []T, weight func(*T) int) iter.Seq[[]T] {
	return func(yield func([]T) bool) {
		limit := s.maxPacket() / 2
		for len(items) > 0 {
			n, size := 0, 0
			for n < len(items) && n < maxRows {
				size += weight(&items[n])
				if n > 0 && size > limit {
					break
				}
				n++
			}
			if !yield(items[:n]) {
				return
			}
			items = items[n:]
		}
	}
}

// inChunks calls do for runs of at most maxRows items, until an error, and adds up what it returns.
func inChunks[T any](items []T, do func(chunk []T) (int, error)) (total int, err error) {
	for chunk := range slices.Chunk(items, maxRows) {
		n, err := do(chunk)
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// changeFound runs find, which returns ids of rows, and then change, to whose end it adds the list
// of these ids. It returns how many there were.
func (s *Store) changeFound(ctx context.Context, what string, find, change statement) (found int, err error) {
	return transaction(ctx, s, what, func(tx *sql.Tx) (int, error) { return changeFound(ctx, tx, find, change) })
}

func changeFound(ctx context.Context, tx *sql.Tx, find, change statement) (found int, err error) {
	ids, err := query(ctx, tx, scanID, find.text, find.args...)
	if err != nil || len(ids) == 0 {
		return 0, err
	}
	_, err = tx.ExecContext(ctx, change.text+list(len(ids)), append(change.args, ids...)...)
	return len(ids), err
}

// uncommitted is the isolation level at which plain reads see uncommitted changes. Reads with locks
// work as at any other.
const uncommitted = sql.LevelReadUncommitted

// transaction runs f in a transaction, and again as retry does.
func transaction[T any](ctx context.Context, s *Store, what string, f func(tx *sql.Tx) (T, error)) (T, error) {
	return transactionAt(ctx, s, sql.LevelDefault, what, f)
}

func transactionAt[T any](ctx context.Context, s *Store, level sql.IsolationLevel, what string, f func(tx *sql.Tx) (T, error)) (T, error) {
	var result T
	err := s.retry(ctx, what, func() error {
		tx, err := s.db.BeginTx(ctx, &sql.TxOptions{Isolation: level})
		if err != nil {
			return err
		}
		if result, err = f(tx); err != nil {
			_ = tx.Rollback() // fails only if the connection is gone, and the transaction with it
			return err
		}
		return tx.Commit()
	})
	if err != nil { // f may have returned something, and the commit failed
		result = *new(T)
	}
	return result, err
}

// exec runs a single statement, and again as retry does. It returns how many rows were changed.
func (s *Store) exec(ctx context.Context, what, text string, args ...any) (changed int, err error) {
	err = s.retry(ctx, what, func() error {
		result, err := s.db.ExecContext(ctx, text, args...)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		changed = int(n)
		return err
	})
	return changed, err
}

// Retries of what the server undid because of other transactions.
const (
	maxRetries = 6
	retryBase  = 5 * time.Millisecond
)

// retry runs f again after a deadlock or a lock wait, which leave nothing of f behind, and after a
// row that another transaction has inserted since f looked for it. Other errors end it: after a
// lost connection nobody knows what was done, and the caller decides about waiting.
func (s *Store) retry(ctx context.Context, what string, f func() error) error {
	wait := backoff.Backoff{Min: retryBase}
	for n := 0; ; n++ {
		err := f()
		if err == nil {
			return nil
		}
		if n == maxRetries || !isNumber(err, errDeadlock, errLockWait, errRecordChanged, errDuplicate) {
			return fmt.Errorf("%s: %w", what, clean(err))
		}
		s.log.DebugContext(ctx, "database statement rolled back because of another, retrying", "what", what, "try", n+1, "error", clean(err))
		if ended := wait.Wait(ctx); ended != nil {
			return fmt.Errorf("%s: %w", what, errors.Join(clean(err), ended))
		}
	}
}

// valid returns s as the database takes it, with U+FFFD for invalid UTF-8. Text columns are for
// people: a delivery is identified by its ID, which is made of the original bytes.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

// bytesOf makes nil, which the driver would send as NULL, empty.
func bytesOf(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// small fits n into a SMALLINT UNSIGNED. These counters are compared with small numbers only.
func small(n int) int { return max(0, min(n, math.MaxUint16)) }

// capped limits the rows of a statement, so that it holds few locks.
func capped(limit int) int { return max(0, min(limit, maxRows)) }

// micros returns d for an INTERVAL … MICROSECOND. Use it in DATE_ADD and DATE_SUB, not after + and
// -, where the embedded database loses the fraction of the second.
func micros(d time.Duration) int64 { return d.Microseconds() }

// timeOrNull returns t for a DATETIME column of the given precision, truncated, or nil if t is zero
// or does not fit the column.
func timeOrNull(t time.Time, precision time.Duration) any {
	t = t.UTC()
	if t.IsZero() || t.Year() < 1 || t.Year() > 9999 {
		return nil
	}
	return t.Truncate(precision)
}

// tuples returns n times tuple, with commas between.
func tuples(tuple string, n int) string { return strings.Repeat(tuple+", ", n-1) + tuple }

// list returns "(?, ?, …)" with n placeholders, n above 0.
func list(n int) string { return "(" + tuples("?", n) + ")" }

// name returns what errors call a lane.
func name(lane delivery.Lane) string { return fmt.Sprintf("%s rule %d", lane.Kind, lane.RuleID) }

// arguments returns what of makes of items, for a list of placeholders.
func arguments[T any](items []T, of func(*T) any) []any {
	args := make([]any, len(items))
	for i := range items {
		args[i] = of(&items[i])
	}
	return args
}
