package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// noOptions is the document of a rule without one: the column takes no NULL.
const noOptions = "{}"

const optionColumns = `SELECT kind, rule_id, rule_created, enabled <> 0, adopted_at, released_at, paused_at, url_sha256, options,
  secrets, key_id, version FROM webhook_dispatcher_rule_option`

func scanOption(rows *sql.Rows, o *rule.Option) error {
	err := rows.Scan(&o.Key.Table, &o.Key.ID, &o.RuleCreated, &o.Enabled, orZero(&o.AdoptedAt), orZero(&o.ReleasedAt), orZero(&o.PausedAt),
		into(o.URLSum[:]), &o.Document, orZero(&o.Sealed), &o.KeyID, &o.Version)
	*o = normal(*o)
	return err
}

// normal returns an option as a row gives it back, so that two which mean the same are equal.
func normal(o rule.Option) rule.Option {
	for _, t := range [...]*time.Time{&o.RuleCreated, &o.AdoptedAt, &o.ReleasedAt} {
		*t = t.UTC().Truncate(time.Microsecond)
	}
	o.PausedAt = o.PausedAt.UTC().Truncate(time.Millisecond)
	if o.Document == noOptions {
		o.Document = ""
	}
	if o.Sealed == "" {
		o.KeyID = ""
	}
	return o
}

// readOptions returns all options of rules, in no order; none if there is no such table yet. They
// include options of rules that are gone or whose id belongs to a newer rule.
func readOptions(ctx context.Context, tx *sql.Tx) ([]rule.Option, error) {
	options, err := query(ctx, tx, scanOption, optionColumns)
	if err != nil {
		return nil, unless(err, errNoTable)
	}
	if !slices.ContainsFunc(options, func(o rule.Option) bool { return !o.PausedAt.IsZero() }) {
		return options, nil
	}
	// Rules are as good without the reason of their pause.
	reasons := make(map[rule.Key]delivery.Reason)
	_, err = query(ctx, tx, func(rows *sql.Rows, key *rule.Key) error {
		var reason delivery.Reason
		err := rows.Scan(&key.Table, &key.ID, &reason)
		reasons[*key] = reason
		return err
	}, "SELECT kind, rule_id, pause_reason FROM webhook_dispatcher_lane WHERE pause_reason <> ''")
	for i := range options {
		if o := &options[i]; !o.PausedAt.IsZero() {
			o.PauseReason = reasons[o.Key]
		}
	}
	return options, unless(err, errNoTable, errTableDenied)
}

// unless returns err if it has none of the numbers.
func unless(err error, numbers ...uint16) error {
	if isNumber(err, numbers...) {
		return nil
	}
	return err
}

// ChangeOption lets change edit a rule's option, and reports whether it differs: then it is written,
// with the next version. A rule without an option gets a new one that only identifies the rule and
// its URL; what was kept for an earlier rule with the same id is replaced by it. A rule's first
// secrets are bound to the URL of its row. Edits of Key, RuleCreated and Version are ignored.
//
// It is one transaction, with the option locked. If other transactions undo it, it starts again,
// and calls change with what there is by then. An error of change ends it, with nothing written, and
// is in the error returned. A missing rule is a *NoRuleError.
func (s *Store) ChangeOption(
	ctx context.Context, key rule.Key, change func(row rule.Row, option *rule.Option) error,
) (changed bool, err error) {
	what := "change the options of " + key.String()
	return s.changeOption(ctx, what, key, func(_ *sql.Tx, row rule.Row, option *rule.Option) error {
		had := option.Sealed != ""
		err := change(row, option)
		if !had && option.Sealed != "" {
			option.URLSum = rule.URLSum(row.URL)
		}
		return err
	})
}

// changeOption is ChangeOption; change may do more in the same transaction.
func (s *Store) changeOption(
	ctx context.Context, what string, key rule.Key, change func(tx *sql.Tx, row rule.Row, option *rule.Option) error,
) (changed bool, err error) {
	return transaction(ctx, s, what, func(tx *sql.Tx) (bool, error) {
		// The option first: what switches a rule holds its lock until all is written, so the row that
		// is read after it matches it.
		stored, err := lockOption(ctx, tx, key)
		if err != nil {
			return false, err
		}
		row, err := s.ruleOf(ctx, tx, key, false)
		if err != nil {
			return false, err
		}
		if stored == nil { // so nothing was locked: the row may be later
			if stored, err = lockOption(ctx, tx, key); err == nil && stored != nil {
				row, err = s.ruleOf(ctx, tx, key, false)
			}
			if err != nil {
				return false, err
			}
		}
		return writeChange(ctx, tx, stored, key, &row, func(o *rule.Option) error { return change(tx, row, o) })
	})
}

// newOption returns the option of a rule of which nothing is set.
func newOption(key rule.Key, row *rule.Row) rule.Option {
	return normal(rule.Option{Key: key, RuleCreated: row.Created, Enabled: true, URLSum: rule.URLSum(row.URL)})
}

// writeChange lets change edit a copy of a rule's option, and writes it if it differs. stored is the
// locked option, nil if there is none; one of an earlier rule with the same id is replaced.
func writeChange(
	ctx context.Context, tx *sql.Tx, stored *rule.Option, key rule.Key, row *rule.Row, change func(*rule.Option) error,
) (changed bool, err error) {
	before := newOption(key, row)
	if stored != nil && stored.RuleCreated.Equal(row.Created) {
		before = *stored
	}
	after := before
	if err := change(&after); err != nil {
		return false, err
	}
	after.Key, after.RuleCreated, after.Version = before.Key, before.RuleCreated, before.Version
	if after = normal(after); after == before {
		return false, nil
	}
	return true, writeOption(ctx, tx, &after, stored != nil)
}

// lockOption reads and locks the option of a rule, nil if there is none. Then nothing is locked: of
// two transactions that insert it the second is undone, and starts again.
func lockOption(ctx context.Context, tx *sql.Tx, key rule.Key) (*rule.Option, error) {
	found, err := query(ctx, tx, scanOption, optionColumns+" WHERE kind = ? AND rule_id = ? FOR UPDATE", key.Table, key.ID)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}

// maxSealed is what the column of secrets holds, in bytes.
const maxSealed = math.MaxUint16

// writeOption writes a whole option row, which is locked if it is there.
func writeOption(ctx context.Context, tx *sql.Tx, o *rule.Option, there bool) error {
	if len(o.Sealed) > maxSealed {
		return own{fmt.Errorf("the sealed secrets have %d bytes, the column takes %d: give fewer or shorter ones", len(o.Sealed), maxSealed)}
	}
	var secrets []byte // NULL for none
	if o.Sealed != "" {
		secrets = []byte(o.Sealed)
	}
	const row = ` webhook_dispatcher_rule_option SET updated_at = UTC_TIMESTAMP(6), enabled = ?, adopted_at = ?, released_at = ?,
  paused_at = ?, rule_created = ?, url_sha256 = ?, options = ?, secrets = ?, key_id = ?, `
	text := "INSERT INTO" + row + "version = 1, kind = ?, rule_id = ?"
	if there {
		text = "UPDATE" + row + "version = version + 1 WHERE kind = ? AND rule_id = ?"
	}
	_, err := tx.ExecContext(ctx, text, o.Enabled, timeOrNull(o.AdoptedAt, time.Microsecond),
		timeOrNull(o.ReleasedAt, time.Microsecond), timeOrNull(o.PausedAt, time.Millisecond), o.RuleCreated, o.URLSum[:],
		cmp.Or(o.Document, noOptions), secrets, o.KeyID, o.Key.Table, o.Key.ID)
	return err
}

// Reseal lets change edit the option of each rule that has secrets, one transaction for each, and
// returns how many it changed. If change fails for one, that one stays as it is and the others go
// on; such errors are joined, each with the rule's id. Options of rules that are gone are skipped.
func (s *Store) Reseal(ctx context.Context, change func(*rule.Option) error) (n int, err error) {
	keys, err := read(ctx, s, "look for rules with secrets",
		func(rows *sql.Rows, k *rule.Key) error { return rows.Scan(&k.Table, &k.ID) },
		"SELECT kind, rule_id FROM webhook_dispatcher_rule_option WHERE LENGTH(secrets) > 0 ORDER BY kind, rule_id")
	if err != nil {
		return 0, err
	}
	err = each(keys, func(key rule.Key) error {
		what := "reseal the secrets of " + key.String()
		changed, err := s.changeOption(ctx, what, key, func(_ *sql.Tx, _ rule.Row, o *rule.Option) error {
			if o.Sealed == "" {
				return nil
			}
			if err := change(o); err != nil {
				return own{err}
			}
			return nil
		})
		if changed {
			n++
		}
		return exceptNoRule(err)
	})
	return n, err
}

func exceptNoRule(err error) error {
	if isNoRule(err) {
		return nil
	}
	return err
}

// PauseRule pauses the rule of a lane for reason, which stays in its lane record, and reports
// whether it did: not if the rule is paused already or gone. Of several callers at the same time
// one gets true. Other options of the rule stay.
func (s *Store) PauseRule(ctx context.Context, lane delivery.Lane, reason delivery.Reason) (paused bool, err error) {
	key, is := rule.KeyOf(lane)
	if !is {
		return false, fmt.Errorf("pause: a queue of kind %s has no rule", lane.Kind)
	}
	paused, err = s.changeOption(ctx, "pause "+key.String(), key, func(tx *sql.Tx, _ rule.Row, o *rule.Option) (err error) {
		if !o.PausedAt.IsZero() {
			return nil
		}
		if o.PausedAt, err = now(ctx, tx, time.Millisecond); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO webhook_dispatcher_lane (kind, rule_id, pause_reason) VALUES (?, ?, ?)
  ON DUPLICATE KEY UPDATE pause_reason = ?`, lane.Kind, lane.RuleID, reason, reason)
		return err
	})
	return paused, exceptNoRule(err)
}

// ResumeRule ends the pause of a rule and removes the mark of a failing endpoint, so that the time
// until the next pause starts again. It reports whether the rule was paused.
func (s *Store) ResumeRule(ctx context.Context, key rule.Key) (resumed bool, err error) {
	resumed, err = s.changeOption(ctx, "resume "+key.String(), key, func(tx *sql.Tx, _ rule.Row, o *rule.Option) error {
		o.PausedAt = time.Time{}
		_, err := tx.ExecContext(ctx, `UPDATE webhook_dispatcher_lane SET failing_since = NULL, pause_reason = ''
  WHERE kind = ? AND rule_id = ?`, key.Table, key.ID)
		return err
	})
	return resumed, exceptNoRule(err)
}
