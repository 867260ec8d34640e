package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// ruleOption is a row of the option table, without what is large or secret.
type ruleOption struct {
	Kind        uint8      `gorm:"column:kind"`
	RuleID      int32      `gorm:"column:rule_id"`
	RuleCreated time.Time  `gorm:"column:rule_created"`
	PausedAt    *time.Time `gorm:"column:paused_at"`
}

// TableName tells GORM the table.
func (ruleOption) TableName() string { return "webhook_dispatcher_rule_option" }

var optionColumns = [...]string{"kind", "rule_id", "rule_created", "paused_at"}

// RuleOptions returns what the option table has for rules, in no order; none where there is no such table yet. Options of rules that are
// gone or were made anew under the same id are among them.
func (s *Store) RuleOptions(ctx context.Context) ([]rule.Option, error) {
	var found []ruleOption
	err := s.gorm.WithContext(ctx).Select(optionColumns[:]).Find(&found).Error
	if isNumber(err, errNoTable) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read options of rules: %w", clean(err))
	}
	options := make([]rule.Option, len(found))
	for i, o := range found {
		options[i] = rule.Option{Kind: delivery.Kind(o.Kind), RuleID: o.RuleID, RuleCreated: o.RuleCreated}
		if o.PausedAt != nil {
			options[i].PausedAt = *o.PausedAt
		}
	}
	return options, nil
}

// PauseRule pauses the rule of a lane for reason, which stays in its lane record, and tells whether it did: not where the rule is
// paused already or is gone. Of several that pause it at the same time, one is told that it did. Other options of the rule stay as they
// are; those of an earlier rule with the same id are dropped.
func (s *Store) PauseRule(ctx context.Context, lane delivery.Lane, reason delivery.Reason) (paused bool, err error) {
	err = s.transaction(ctx, fmt.Sprintf("pause %s rule %d", lane.Kind, lane.RuleID), func(tx *sql.Tx) error {
		paused = false
		created, url, err := ruleOf(ctx, tx, lane)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		// Makes the row, or else locks it, so that what is read next stays so until the end.
		sum := sha256.Sum256([]byte(url))
		if _, err := tx.ExecContext(ctx, `INSERT INTO webhook_dispatcher_rule_option
  (kind, rule_id, rule_created, url_sha256, options, updated_at) VALUES (?, ?, ?, ?, '{}', UTC_TIMESTAMP(6))
  ON DUPLICATE KEY UPDATE kind = kind`, uint8(lane.Kind), lane.RuleID, created, sum[:]); err != nil {
			return err
		}
		option, err := lockOption(ctx, tx, lane)
		if err != nil {
			return err
		}
		same := option.RuleCreated.Equal(created)
		if same && option.PausedAt != nil {
			return nil
		}
		change, args := "", []any{}
		if !same {
			change = `, rule_created = ?, url_sha256 = ?, options = '{}', secrets = NULL, key_id = '', enabled = 1,
  adopted_at = NULL, released_at = NULL`
			args = append(args, created, sum[:])
		}
		if _, err := tx.ExecContext(ctx, `UPDATE webhook_dispatcher_rule_option
  SET paused_at = UTC_TIMESTAMP(3), updated_at = UTC_TIMESTAMP(6), version = version + 1`+change+` WHERE kind = ? AND rule_id = ?`,
			append(args, uint8(lane.Kind), lane.RuleID)...); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO webhook_dispatcher_lane (kind, rule_id, pause_reason) VALUES (?, ?, ?)
  ON DUPLICATE KEY UPDATE pause_reason = ?`, uint8(lane.Kind), lane.RuleID, string(reason), string(reason)); err != nil {
			return err
		}
		paused = true
		return nil
	})
	return paused && err == nil, err
}

// ResumeRule ends the pause of the rule of a lane and takes the mark of a failing endpoint away, so that the time until the next pause
// begins anew. It tells whether the rule was paused; a rule that is gone is not.
func (s *Store) ResumeRule(ctx context.Context, lane delivery.Lane) (resumed bool, err error) {
	err = s.transaction(ctx, fmt.Sprintf("resume %s rule %d", lane.Kind, lane.RuleID), func(tx *sql.Tx) error {
		resumed = false
		created, _, err := ruleOf(ctx, tx, lane)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		option, err := lockOption(ctx, tx, lane)
		switch {
		case errors.Is(err, sql.ErrNoRows):
		case err != nil:
			return err
		case option.PausedAt != nil && option.RuleCreated.Equal(created):
			if _, err := tx.ExecContext(ctx, `UPDATE webhook_dispatcher_rule_option
  SET paused_at = NULL, updated_at = UTC_TIMESTAMP(6), version = version + 1 WHERE kind = ? AND rule_id = ?`,
				uint8(lane.Kind), lane.RuleID); err != nil {
				return err
			}
			resumed = true
		}
		_, err = tx.ExecContext(ctx, `UPDATE webhook_dispatcher_lane SET failing_since = NULL, pause_reason = ''
  WHERE kind = ? AND rule_id = ?`, uint8(lane.Kind), lane.RuleID)
		return err
	})
	return resumed && err == nil, err
}

// ruleOf reads what identifies the rule of a lane. It locks nothing: accounts may only read there.
func ruleOf(ctx context.Context, tx *sql.Tx, lane delivery.Lane) (created time.Time, url string, err error) {
	if lane.Kind != delivery.KindWebhook {
		return time.Time{}, "", fmt.Errorf("a lane of kind %s has no rule", lane.Kind)
	}
	err = tx.QueryRowContext(ctx, "SELECT created, webhook_url FROM openedx_webhooks_webhook WHERE id = ?", lane.RuleID).Scan(&created, &url)
	return created, url, err
}

// lockOption reads the option row of a lane and locks it.
func lockOption(ctx context.Context, tx *sql.Tx, lane delivery.Lane) (option ruleOption, err error) {
	err = tx.QueryRowContext(ctx, `SELECT rule_created, paused_at FROM webhook_dispatcher_rule_option
  WHERE kind = ? AND rule_id = ? FOR UPDATE`, uint8(lane.Kind), lane.RuleID).Scan(&option.RuleCreated, &option.PausedAt)
	return option, err
}
