package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// webhook is a row of the plugin's table. Statements name its columns: a later version of the
// plugin may add some.
type webhook struct {
	ID       int32     `gorm:"column:id;primaryKey;autoIncrement"`
	Created  time.Time `gorm:"column:created"`
	Modified time.Time `gorm:"column:modified"`
	Event    string    `gorm:"column:event"`
	URL      string    `gorm:"column:webhook_url"`
	Enabled  tinyint   `gorm:"column:enabled"`
	Form     tinyint   `gorm:"column:use_www_form_encoding"`
}

// tinyint is MySQL's bool: any number but 0 is true, whereas Go's bool scans only 0 and 1.
type tinyint int8

func tinyintOf(b bool) tinyint {
	if b {
		return 1
	}
	return 0
}

// TableName implements GORM's Tabler.
func (webhook) TableName() string { return "openedx_webhooks_webhook" }

var webhookColumns = [...]string{"id", "created", "modified", "event", "webhook_url", "enabled", "use_www_form_encoding"}

// readWebhooks returns all rows of the plugin's webhook table by id.
func readWebhooks(db *gorm.DB) ([]rule.Row, error) {
	var found []webhook
	if err := db.Select(webhookColumns[:]).Order("id").Find(&found).Error; err != nil {
		return nil, fmt.Errorf("read webhook rules: %w", clean(err))
	}
	rows := make([]rule.Row, len(found))
	for i := range found {
		rows[i] = found[i].row()
	}
	return rows, nil
}

func (w *webhook) row() rule.Row {
	return rule.Row{
		ID: w.ID, Created: w.Created, Modified: w.Modified, Event: w.Event, URL: w.URL, Enabled: w.Enabled != 0, Form: w.Form != 0,
	}
}

// ruleTable returns the plugin's table of a rule. Both tables have a webhook's columns.
func ruleTable(key rule.Key) (string, error) {
	switch key.Table {
	case rule.Webhooks:
		return webhook{}.TableName(), nil
	case rule.Webfilters:
		return webfilter{}.TableName(), nil
	}
	return "", fmt.Errorf("unknown table of rules %d", key.Table)
}

// ruleOf reads a rule's row. Without a lock clause it needs only SELECT.
func ruleOf(ctx context.Context, tx *sql.Tx, key rule.Key, lock string) (rule.Row, error) {
	table, err := ruleTable(key)
	if err != nil {
		return rule.Row{}, err
	}
	var w webhook
	err = tx.QueryRowContext(ctx, "SELECT "+strings.Join(webhookColumns[:], ", ")+" FROM "+table+" WHERE id = ?"+lock, key.ID).
		Scan(&w.ID, &w.Created, &w.Modified, &w.Event, &w.URL, &w.Enabled, &w.Form)
	if errors.Is(err, sql.ErrNoRows) {
		return rule.Row{}, &NoRuleError{key}
	}
	return w.row(), err
}

// NoRuleError says that a rule has no row in the plugin's table.
type NoRuleError struct{ Key rule.Key }

// Error implements error.
func (e *NoRuleError) Error() string {
	return "there is no " + e.Key.String()
}

func isNoRule(err error) bool {
	_, is := errors.AsType[*NoRuleError](err)
	return is
}

// own marks an error that concerns only one rule.
type own struct{ error }

// Unwrap returns the marked error.
func (e own) Unwrap() error { return e.error }

// each calls do for each rule and joins the errors. It stops at an error that is not own or a
// *NoRuleError.
func each(keys []rule.Key, do func(rule.Key) error) error {
	var errs []error
	for _, key := range keys {
		err := do(key)
		if err == nil {
			continue
		}
		errs = append(errs, err)
		if _, is := errors.AsType[own](err); !is && !isNoRule(err) {
			break
		}
	}
	return errors.Join(errs...)
}

// RuleExists reports whether a lane's rule is in the database, enabled or not. It is true for lanes
// without a rule.
func (s *Store) RuleExists(ctx context.Context, lane delivery.Lane) (bool, error) {
	key, is := rule.KeyOf(lane)
	if !is {
		return true, nil
	}
	table, err := ruleTable(key)
	if err != nil {
		return false, err
	}
	rows, err := s.db.QueryContext(ctx, "SELECT id FROM "+table+" WHERE id = ?", key.ID)
	found, err := collect(rows, err, scanID)
	if err != nil {
		return false, fmt.Errorf("look up %s: %w", key, clean(err))
	}
	return len(found) > 0, nil
}
