package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// webhook is a row of the plugin's webhook table. The webfilter table has the same columns and more.
type webhook struct {
	ID       int32     `gorm:"column:id;primaryKey;autoIncrement"`
	Created  time.Time `gorm:"column:created"`
	Modified time.Time `gorm:"column:modified"`
	Event    string    `gorm:"column:event"`
	URL      string    `gorm:"column:webhook_url"`
	Enabled  tinyint   `gorm:"column:enabled"`
	Form     tinyint   `gorm:"column:use_www_form_encoding"`
}

// tinyint is MySQL's bool: any number except 0 is true, but Go's bool scans only 0 and 1.
type tinyint int8

func tinyintOf(b bool) tinyint {
	if b {
		return 1
	}
	return 0
}

// TableName tells GORM the table.
func (webhook) TableName() string { return "openedx_webhooks_webhook" }

func (w *webhook) row() rule.Row {
	return rule.Row{
		ID: w.ID, Created: w.Created, Modified: w.Modified, Event: w.Event, URL: w.URL, Enabled: w.Enabled != 0, Form: w.Form != 0,
	}
}

func webhookOf(row *rule.Row) webhook {
	return webhook{
		row.ID, row.Created, row.Modified, row.Event, row.URL, tinyintOf(row.Enabled), tinyintOf(row.Form),
	}
}

// webfilter is a row of the plugin's webfilter table.
type webfilter struct {
	Webhook                    webhook `gorm:"embedded"`
	Description                string  `gorm:"column:description"`
	DisableFiltering           tinyint `gorm:"column:disable_filtering"`
	DisableHalt                tinyint `gorm:"column:disable_halt"`
	HaltOn4xx                  tinyint `gorm:"column:halt_on_4xx"`
	RedirectOn4xx              string  `gorm:"column:redirect_on_4xx"`
	HaltOn5xx                  tinyint `gorm:"column:halt_on_5xx"`
	RedirectOn5xx              string  `gorm:"column:redirect_on_5xx"`
	HaltOnRequestException     tinyint `gorm:"column:halt_on_request_exception"`
	RedirectOnRequestException string  `gorm:"column:redirect_on_request_exception"`
}

// TableName tells GORM the table.
func (webfilter) TableName() string { return "openedx_webhooks_webfilter" }

func (w *webfilter) row() rule.WebfilterRow {
	return rule.WebfilterRow{Row: w.Webhook.row(), Description: w.Description, WebfilterFlags: rule.WebfilterFlags{
		DisableFiltering: w.DisableFiltering != 0, DisableHalt: w.DisableHalt != 0,
		HaltOn4xx: w.HaltOn4xx != 0, RedirectOn4xx: w.RedirectOn4xx, HaltOn5xx: w.HaltOn5xx != 0, RedirectOn5xx: w.RedirectOn5xx,
		HaltOnRequestException: w.HaltOnRequestException != 0, RedirectOnRequestException: w.RedirectOnRequestException,
	}}
}

func webfilterOf(row *rule.WebfilterRow) webfilter {
	return webfilter{
		webhookOf(&row.Row), row.Description, tinyintOf(row.DisableFiltering), tinyintOf(row.DisableHalt),
		tinyintOf(row.HaltOn4xx), row.RedirectOn4xx, tinyintOf(row.HaltOn5xx), row.RedirectOn5xx,
		tinyintOf(row.HaltOnRequestException), row.RedirectOnRequestException,
	}
}

// orm returns GORM in a transaction.
func (s *Store) orm(ctx context.Context, tx *sql.Tx) *gorm.DB {
	db := s.gorm.WithContext(ctx)
	db.Statement.ConnPool = tx
	return db
}

var forUpdate = clause.Locking{Strength: clause.LockingStrengthUpdate}

// ruleTable returns the plugin's table of a rule.
func ruleTable(key rule.Key) (string, error) {
	switch key.Table {
	case rule.Webhooks:
		return webhook{}.TableName(), nil
	case rule.Webfilters:
		return webfilter{}.TableName(), nil
	}
	return "", fmt.Errorf("unknown table of rules %d", key.Table)
}

// ruleOf reads the row of a rule with db, which may have a lock clause. Without one the account
// needs no right to write there.
func ruleOf(db *gorm.DB, key rule.Key) (rule.Row, error) {
	table, err := ruleTable(key)
	if err != nil {
		return rule.Row{}, err
	}
	var w webhook
	err = noRule(db.Table(table).Where("id = ?", key.ID).Take(&w).Error, key)
	return w.row(), err
}

// NoRuleError says that the plugin's table has no row of a rule.
type NoRuleError struct{ Key rule.Key }

// Error implements error.
func (e *NoRuleError) Error() string { return "there is no " + e.Key.String() }

func noRule(err error, key rule.Key) error {
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return &NoRuleError{key}
	}
	return err
}

func isNoRule(err error) bool {
	_, is := errors.AsType[*NoRuleError](err)
	return is
}

// own marks an error that concerns only one rule: the next may succeed.
type own struct{ error }

// Unwrap returns the marked error.
func (e own) Unwrap() error { return e.error }

// each calls do for each rule and joins the errors. It goes on after those that concern only one.
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

// RuleExists reports whether the rule of a lane is in the database, enabled or not. Lanes without a
// rule of the plugin always exist.
func (s *Store) RuleExists(ctx context.Context, lane delivery.Lane) (bool, error) {
	key, is := rule.KeyOf(lane)
	if !is {
		return true, nil
	}
	table, err := ruleTable(key)
	if err != nil {
		return false, err
	}
	_, found, err := readOne(ctx, s, "look up "+key.String(), scanID, "SELECT id FROM "+table+" WHERE id = ?", key.ID)
	return found, err
}

// Rules returns the rows of the plugin's tables and their options as of one moment: it reads them
// from a snapshot, so that a rule which is added or adopted meanwhile comes with its options or not
// at all.
func (s *Store) Rules(ctx context.Context) (tables rule.Tables, err error) {
	err = s.gorm.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		var webhooks []webhook
		if err := tx.Order("id").Find(&webhooks).Error; err != nil {
			return err
		}
		for i := range webhooks {
			tables.Webhooks = append(tables.Webhooks, webhooks[i].row())
		}
		var filters []webfilter
		if err := tx.Order("id").Find(&filters).Error; err != nil {
			return err
		}
		for i := range filters {
			tables.Webfilters = append(tables.Webfilters, filters[i].row())
		}
		tables.Options, err = readOptions(tx)
		return err
	}, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return rule.Tables{}, fmt.Errorf("read rules from database %s: %w", s.target, clean(err))
	}
	return tables, nil
}
