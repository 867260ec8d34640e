package store

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// ruleOption is a row of the option table.
type ruleOption struct {
	Kind        uint8      `gorm:"column:kind"`
	RuleID      int32      `gorm:"column:rule_id"`
	Enabled     tinyint    `gorm:"column:enabled"`
	AdoptedAt   *time.Time `gorm:"column:adopted_at"`
	ReleasedAt  *time.Time `gorm:"column:released_at"`
	PausedAt    *time.Time `gorm:"column:paused_at"`
	RuleCreated time.Time  `gorm:"column:rule_created"`
	URLSum      []byte     `gorm:"column:url_sha256"`
	Options     string     `gorm:"column:options"`
	Secrets     []byte     `gorm:"column:secrets"`
	KeyID       string     `gorm:"column:key_id"`
	Version     uint32     `gorm:"column:version"`
}

// TableName implements GORM's Tabler.
func (ruleOption) TableName() string { return "webhook_dispatcher_rule_option" }

var optionColumns = [...]string{
	"kind", "rule_id", "enabled", "adopted_at", "released_at", "paused_at", "rule_created", "url_sha256", "options", "secrets", "key_id",
	"version",
}

// noOptions is the column's value for no options; it is not nullable.
const noOptions = "{}"

// option returns the row as an option.
func (o *ruleOption) option() rule.Option {
	moment := func(t *time.Time) time.Time {
		if t == nil {
			return time.Time{}
		}
		return *t
	}
	option := rule.Option{
		Key: rule.Key{Table: rule.Table(o.Kind), ID: o.RuleID}, RuleCreated: o.RuleCreated, Enabled: o.Enabled != 0,
		AdoptedAt: moment(o.AdoptedAt), ReleasedAt: moment(o.ReleasedAt), PausedAt: moment(o.PausedAt),
		Document: o.Options, Sealed: string(o.Secrets), KeyID: o.KeyID, Version: o.Version,
	}
	copy(option.URLSum[:], o.URLSum)
	return normal(option)
}

// normal returns an option as it would be read back, so that equal ones compare equal.
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

// readOptions returns the options of rules, unordered; none if the table does not exist. Options of
// deleted rules, and of former rules with the same id, are among them.
func readOptions(db *gorm.DB) ([]rule.Option, error) {
	var found []ruleOption
	err := db.Select(optionColumns[:]).Find(&found).Error
	if isNumber(err, errNoTable) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read options of rules: %w", clean(err))
	}
	options := make([]rule.Option, len(found))
	paused := false
	for i := range found {
		options[i] = found[i].option()
		paused = paused || found[i].PausedAt != nil
	}
	if !paused {
		return options, nil
	}
	return options, addReasons(db, options)
}

// pauseReason is a lane record's reason for a pause.
type pauseReason struct {
	Kind   uint8  `gorm:"column:kind"`
	RuleID int32  `gorm:"column:rule_id"`
	Reason string `gorm:"column:pause_reason"`
}

// addReasons sets why rules are paused. Without the table or the right to read it, reasons stay
// empty.
func addReasons(db *gorm.DB, options []rule.Option) error {
	var found []pauseReason
	err := db.Table("webhook_dispatcher_lane").Select("kind", "rule_id", "pause_reason").Where("pause_reason <> ''").Find(&found).Error
	if isNumber(err, errNoTable, errTableDenied) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read why rules are paused: %w", clean(err))
	}
	reasons := make(map[rule.Key]delivery.Reason, len(found))
	for _, r := range found {
		reasons[rule.Key{Table: rule.Table(r.Kind), ID: r.RuleID}] = delivery.Reason(r.Reason)
	}
	for i := range options {
		if o := &options[i]; !o.PausedAt.IsZero() {
			o.PauseReason = reasons[o.Key]
		}
	}
	return nil
}

// ChangeOption calls change with a rule's row and option, and writes the option, with the next
// version, if it differs; it reports whether it does. A rule without an option starts with an empty
// one, and so does a rule whose id was another rule's, whose option is then dropped. The first
// secrets are bound to the row's URL. change must not set Key, RuleCreated and Version.
//
// This is one transaction under the option's lock. It may be rolled back because of others: then
// change is called again with the current state. An error of change ends it with nothing written. A
// missing rule is a *NoRuleError.
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

// changeOption is ChangeOption for a change that does more in the transaction.
func (s *Store) changeOption(
	ctx context.Context, what string, key rule.Key, change func(tx *sql.Tx, row rule.Row, option *rule.Option) error,
) (changed bool, err error) {
	err = s.transaction(ctx, what, func(tx *sql.Tx) error {
		// The option first: a switch holds its lock until all is written, so the row read next is
		// consistent.
		stored, err := lockOption(ctx, tx, key)
		if err != nil {
			return err
		}
		row, err := ruleOf(ctx, tx, key, "")
		if err != nil {
			return err
		}
		option := stored.of(key, &row)
		changed, err = writeChange(ctx, tx, stored, option, func(o *rule.Option) error { return change(tx, row, o) })
		return err
	})
	return changed && err == nil, err
}

// stored is an option read under its lock; nil if there is none.
type stored struct{ rule.Option }

// of returns the option of a rule, a new one if none is stored for it.
func (s *stored) of(key rule.Key, row *rule.Row) rule.Option {
	if s != nil && s.RuleCreated.Equal(row.Created) {
		return s.Option
	}
	return newOption(key, row)
}

// newOption returns the option of a rule without one.
func newOption(key rule.Key, row *rule.Row) rule.Option {
	return normal(rule.Option{
		Key: key, RuleCreated: row.Created, Enabled: true, URLSum: rule.URLSum(row.URL),
	})
}

// writeChange applies change to a copy of an option and writes it if it differs.
func writeChange(
	ctx context.Context, tx *sql.Tx, stored *stored, option rule.Option, change func(*rule.Option) error,
) (changed bool, err error) {
	after := option
	if err := change(&after); err != nil {
		return false, err
	}
	after.Key, after.RuleCreated, after.Version = option.Key, option.RuleCreated, option.Version
	if after = normal(after); after == option {
		return false, nil
	}
	return true, writeOption(ctx, tx, &after, stored != nil)
}

// lockOption reads and locks a rule's option. A missing one is not locked: of two that create it
// the second is rolled back and retried.
func lockOption(ctx context.Context, tx *sql.Tx, key rule.Key) (*stored, error) {
	rows, err := tx.QueryContext(ctx, "SELECT "+strings.Join(optionColumns[:], ", ")+
		" FROM webhook_dispatcher_rule_option WHERE kind = ? AND rule_id = ? FOR UPDATE", uint8(key.Table), key.ID)
	found, err := collect(rows, err, func(rows *sql.Rows, o *ruleOption) error {
		return rows.Scan(&o.Kind, &o.RuleID, &o.Enabled, &o.AdoptedAt, &o.ReleasedAt, &o.PausedAt, &o.RuleCreated, &o.URLSum, &o.Options,
			&o.Secrets, &o.KeyID, &o.Version)
	})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &stored{found[0].option()}, nil
}

// maxSealed is the size of the secrets column.
const maxSealed = math.MaxUint16

// writeOption writes a whole option row, which is locked if it exists.
func writeOption(ctx context.Context, tx *sql.Tx, o *rule.Option, there bool) error {
	if len(o.Sealed) > maxSealed {
		return own{fmt.Errorf("the sealed secrets have %d bytes, the column takes %d: give fewer or shorter ones", len(o.Sealed), maxSealed)}
	}
	document, secrets := o.Document, any(nil)
	if document == "" {
		document = noOptions
	}
	if o.Sealed != "" {
		secrets = []byte(o.Sealed)
	}
	statement := `INSERT INTO webhook_dispatcher_rule_option SET version = 1, updated_at = UTC_TIMESTAMP(6), enabled = ?, adopted_at = ?,
  released_at = ?, paused_at = ?, rule_created = ?, url_sha256 = ?, options = ?, secrets = ?, key_id = ?, kind = ?, rule_id = ?`
	if there {
		statement = `UPDATE webhook_dispatcher_rule_option SET version = version + 1, updated_at = UTC_TIMESTAMP(6), enabled = ?, adopted_at = ?,
  released_at = ?, paused_at = ?, rule_created = ?, url_sha256 = ?, options = ?, secrets = ?, key_id = ? WHERE kind = ? AND rule_id = ?`
	}
	_, err := tx.ExecContext(ctx, statement, tinyintOf(o.Enabled), timeOrNull(o.AdoptedAt, time.Microsecond),
		timeOrNull(o.ReleasedAt, time.Microsecond), timeOrNull(o.PausedAt, time.Millisecond), o.RuleCreated, o.URLSum[:], document, secrets,
		o.KeyID, uint8(o.Key.Table), o.Key.ID)
	return err
}

// Reseal calls change on the option of each rule with secrets, one transaction each, and returns
// how many it changed. Errors of change are joined, each with the rule's id, and do not stop the
// others. Deleted rules are skipped.
func (s *Store) Reseal(ctx context.Context, change func(*rule.Option) error) (n int, err error) {
	rows, err := s.db.QueryContext(ctx, `SELECT kind, rule_id FROM webhook_dispatcher_rule_option
  WHERE LENGTH(secrets) > 0 ORDER BY kind, rule_id`)
	keys, err := collect(rows, err, func(rows *sql.Rows, k *rule.Key) error { return rows.Scan(&k.Table, &k.ID) })
	if err != nil {
		return 0, fmt.Errorf("look for rules with secrets: %w", clean(err))
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
		if isNoRule(err) {
			return nil
		}
		return err
	})
	return n, err
}
