package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// The plugin's tables. Their columns are read as the fields of rule.WebfilterRow; flags are compared
// with 0, as any other number is true in MySQL, but Go's bool scans only 0 and 1.
const (
	webhookTable   = "openedx_webhooks_webhook"
	webfilterTable = "openedx_webhooks_webfilter"

	webhookColumns = "id, created, modified, event, webhook_url AS URL, enabled <> 0 AS Enabled, use_www_form_encoding <> 0 AS Form"
	// filterColumns are those that only the webfilter table has, in the order of filterSet.
	filterColumns = `, description, disable_filtering <> 0 AS DisableFiltering, disable_halt <> 0 AS DisableHalt,
  halt_on_4xx <> 0 AS HaltOn4xx, redirect_on_4xx AS RedirectOn4xx, halt_on_5xx <> 0 AS HaltOn5xx, redirect_on_5xx AS RedirectOn5xx,
  halt_on_request_exception <> 0 AS HaltOnRequestException, redirect_on_request_exception AS RedirectOnRequestException`
	filterSet = `, description = ?, disable_filtering = ?, disable_halt = ?, halt_on_4xx = ?, redirect_on_4xx = ?,
  halt_on_5xx = ?, redirect_on_5xx = ?, halt_on_request_exception = ?, redirect_on_request_exception = ?`
)

// filterArgs returns the arguments of filterSet.
func filterArgs(row *rule.WebfilterRow) []any {
	return []any{
		row.Description, row.DisableFiltering, row.DisableHalt, row.HaltOn4xx, row.RedirectOn4xx,
		row.HaltOn5xx, row.RedirectOn5xx, row.HaltOnRequestException, row.RedirectOnRequestException,
	}
}

// webhooks and webfilters return a query for rows of a table of the plugin, as *rule.Row and
// *rule.WebfilterRow. The webfilter table has the webhook table's columns, too.
func (s *Store) webhooks(ctx context.Context, tx *sql.Tx, table string) *gorm.DB {
	db := s.gorm.WithContext(ctx)
	db.Statement.ConnPool = tx
	return db.Table(table).Select(webhookColumns)
}

func (s *Store) webfilters(ctx context.Context, tx *sql.Tx) *gorm.DB {
	return s.webhooks(ctx, tx, webfilterTable).Select(webhookColumns + filterColumns)
}

var forUpdate = clause.Locking{Strength: clause.LockingStrengthUpdate}

// ruleTable returns the plugin's table of a rule.
func ruleTable(key rule.Key) (string, error) {
	switch key.Table {
	case rule.Webhooks:
		return webhookTable, nil
	case rule.Webfilters:
		return webfilterTable, nil
	}
	return "", fmt.Errorf("unknown table of rules %d", key.Table)
}

// ruleOf reads the row of a rule, and locks it if asked to: only then the account needs a right to
// write there.
func (s *Store) ruleOf(ctx context.Context, tx *sql.Tx, key rule.Key, lock bool) (row rule.Row, err error) {
	table, err := ruleTable(key)
	if err != nil {
		return row, err
	}
	db := s.webhooks(ctx, tx, table)
	if lock {
		db = db.Clauses(forUpdate)
	}
	err = noRule(db.Where("id = ?", key.ID).Take(&row).Error, key)
	return row, err
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
func (s *Store) Rules(ctx context.Context) (rule.Tables, error) {
	what := "read rules from database " + s.target
	return transactionAt(ctx, s, sql.LevelRepeatableRead, what, func(tx *sql.Tx) (tables rule.Tables, err error) {
		if err := s.webhooks(ctx, tx, webhookTable).Order("id").Find(&tables.Webhooks).Error; err != nil {
			return tables, err
		}
		if err := s.webfilters(ctx, tx).Order("id").Find(&tables.Webfilters).Error; err != nil {
			return tables, err
		}
		tables.Options, err = readOptions(ctx, tx)
		return tables, err
	})
}
