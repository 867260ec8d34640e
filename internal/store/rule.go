package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"gorm.io/gorm"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// webhook is a row of the plugin's table. Its columns are named in every statement: a later version of the plugin may add some.
type webhook struct {
	ID       int32     `gorm:"column:id;primaryKey;autoIncrement"`
	Created  time.Time `gorm:"column:created"`
	Modified time.Time `gorm:"column:modified"`
	Event    string    `gorm:"column:event"`
	URL      string    `gorm:"column:webhook_url"`
	Enabled  tinyint   `gorm:"column:enabled"`
	Form     tinyint   `gorm:"column:use_www_form_encoding"`
}

// tinyint is MySQL's bool: any number but 0 is true, and Go's bool takes 0 and 1 alone.
type tinyint int8

func tinyintOf(b bool) tinyint {
	if b {
		return 1
	}
	return 0
}

// TableName tells GORM the table.
func (webhook) TableName() string { return "openedx_webhooks_webhook" }

var webhookColumns = [...]string{"id", "created", "modified", "event", "webhook_url", "enabled", "use_www_form_encoding"}

// Lengths of the plugin's columns, in characters.
const (
	maxEvent = 50
	maxURL   = 255
)

// Webhooks returns all rows of the plugin's webhook table, enabled or not, by id.
func (s *Store) Webhooks(ctx context.Context) ([]rule.Row, error) {
	return readWebhooks(s.gorm.WithContext(ctx))
}

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

// AddWebhook makes a row of the plugin's webhook table and returns its id. The row's ID, Created and Modified are not looked at: both
// times are the database's, in UTC. option, where it is not nil, makes the rule's option, or returns nil for none; row and option are
// written in one transaction. It may be called again with another id, when what others do at the same moment undid the first; its error
// ends it, nothing written, and is in the error returned. The option's Kind, RuleID, RuleCreated, URLSum and Version are the store's to
// set. It needs an account that may INSERT into the plugin's table.
func (s *Store) AddWebhook(
	ctx context.Context, row rule.Row, option func(id int32, created time.Time) (*rule.Option, error),
) (id int32, err error) {
	const what = "add webhook rule"
	if n := utf8.RuneCountInString(row.Event); n > maxEvent || !utf8.ValidString(row.Event) {
		return 0, fmt.Errorf("%s: the event %q has %d characters, the column takes %d", what, valid(shorten(row.Event, 60)), n, maxEvent)
	}
	if n := utf8.RuneCountInString(row.URL); n > maxURL || !utf8.ValidString(row.URL) {
		return 0, fmt.Errorf("%s: the URL has %d characters, the column takes %d of valid UTF-8", what, n, maxURL)
	}
	err = s.transaction(ctx, what, func(tx *sql.Tx) error {
		if row.ID, row.Created, err = insertWebhook(ctx, tx, &row); err != nil || option == nil {
			return err
		}
		made, err := option(row.ID, row.Created)
		if err != nil || made == nil {
			return err
		}
		lane := delivery.Lane{Kind: delivery.KindWebhook, RuleID: row.ID}
		o, identity := *made, newOption(lane, &row)
		o.Kind, o.RuleID, o.RuleCreated, o.URLSum = identity.Kind, identity.RuleID, identity.RuleCreated, identity.URLSum
		stored, err := lockOption(ctx, tx, lane) // of an earlier rule
		if err != nil {
			return err
		}
		o = normal(o)
		return writeOption(ctx, tx, &o, stored != nil)
	})
	if err != nil {
		return 0, err
	}
	return row.ID, nil
}

func insertWebhook(ctx context.Context, tx *sql.Tx, row *rule.Row) (id int32, created time.Time, err error) {
	if err := tx.QueryRowContext(ctx, "SELECT UTC_TIMESTAMP(6)").Scan(&created); err != nil {
		return 0, time.Time{}, err
	}
	created = created.Truncate(time.Microsecond) // the embedded database's clock is finer than asked for
	result, err := tx.ExecContext(ctx, `INSERT INTO openedx_webhooks_webhook
  (created, modified, event, webhook_url, enabled, use_www_form_encoding) VALUES (?, ?, ?, ?, ?, ?)`,
		created, created, row.Event, row.URL, tinyintOf(row.Enabled), tinyintOf(row.Form))
	if err != nil {
		return 0, time.Time{}, err
	}
	last, err := result.LastInsertId()
	return int32(last), created, err
}

// ruleTable returns the plugin's table that the rule of a lane is a row of.
func ruleTable(lane delivery.Lane) (string, error) {
	if lane.Kind != delivery.KindWebhook {
		return "", fmt.Errorf("a lane of kind %s has no rule", lane.Kind)
	}
	return webhook{}.TableName(), nil
}

// ruleOf reads the row of a lane's rule. Without a lock clause it locks nothing, and the account need not be one that may write there.
func ruleOf(ctx context.Context, tx *sql.Tx, lane delivery.Lane, lock string) (rule.Row, error) {
	table, err := ruleTable(lane)
	if err != nil {
		return rule.Row{}, err
	}
	var w webhook
	err = tx.QueryRowContext(ctx, "SELECT "+strings.Join(webhookColumns[:], ", ")+" FROM "+table+" WHERE id = ?"+lock, lane.RuleID).
		Scan(&w.ID, &w.Created, &w.Modified, &w.Event, &w.URL, &w.Enabled, &w.Form)
	if errors.Is(err, sql.ErrNoRows) {
		return rule.Row{}, &NoRuleError{lane}
	}
	return w.row(), err
}

// NoRuleError says that the plugin's table has no row of a lane's rule.
type NoRuleError struct{ Lane delivery.Lane }

// Error implements error.
func (e *NoRuleError) Error() string {
	return fmt.Sprintf("there is no %s rule %d; see rules list", e.Lane.Kind, e.Lane.RuleID)
}

func isNoRule(err error) bool {
	_, is := errors.AsType[*NoRuleError](err)
	return is
}

// own marks an error that concerns one rule alone: the next may do better.
type own struct{ error }

// Unwrap returns what is marked.
func (e own) Unwrap() error { return e.error }

// each calls do for each lane and joins the errors. It goes on after those that concern one rule alone.
func each(lanes []delivery.Lane, do func(delivery.Lane) error) error {
	var errs []error
	for _, lane := range lanes {
		err := do(lane)
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

// RuleExists looks in the database whether the rule of a lane is there, enabled or not. Lanes that belong to no rule of
// the plugin always are.
func (s *Store) RuleExists(ctx context.Context, lane delivery.Lane) (bool, error) {
	if lane.Kind != delivery.KindWebhook {
		return true, nil
	}
	var found []webhook
	if err := s.gorm.WithContext(ctx).Select("id").Where("id = ?", lane.RuleID).Limit(1).Find(&found).Error; err != nil {
		return false, fmt.Errorf("look up webhook rule %d: %w", lane.RuleID, clean(err))
	}
	return len(found) > 0, nil
}
