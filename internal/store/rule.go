package store

import (
	"context"
	"fmt"
	"time"
	"unicode/utf8"

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
	var found []webhook
	if err := s.gorm.WithContext(ctx).Select(webhookColumns[:]).Order("id").Find(&found).Error; err != nil {
		return nil, fmt.Errorf("read webhook rules: %w", clean(err))
	}
	rows := make([]rule.Row, len(found))
	for i, w := range found {
		rows[i] = rule.Row{
			ID: w.ID, Created: w.Created, Modified: w.Modified, Event: w.Event, URL: w.URL, Enabled: w.Enabled != 0, Form: w.Form != 0,
		}
	}
	return rows, nil
}

// AddWebhook makes a row of the plugin's webhook table and returns its id. The row's ID, Created and Modified are not looked at: both
// times are the database's, in UTC. It needs an account that may INSERT there.
func (s *Store) AddWebhook(ctx context.Context, row rule.Row) (int32, error) {
	if n := utf8.RuneCountInString(row.Event); n > maxEvent || !utf8.ValidString(row.Event) {
		return 0, fmt.Errorf("add webhook rule: the event %q has %d characters, the column takes %d", valid(shorten(row.Event, 60)), n, maxEvent)
	}
	if n := utf8.RuneCountInString(row.URL); n > maxURL || !utf8.ValidString(row.URL) {
		return 0, fmt.Errorf("add webhook rule: the URL has %d characters, the column takes %d of valid UTF-8", n, maxURL)
	}
	var now time.Time
	if err := s.db.QueryRowContext(ctx, "SELECT UTC_TIMESTAMP(6)").Scan(&now); err != nil {
		return 0, fmt.Errorf("add webhook rule: read the database's time: %w", clean(err))
	}
	w := webhook{Created: now, Modified: now, Event: row.Event, URL: row.URL, Enabled: tinyintOf(row.Enabled), Form: tinyintOf(row.Form)}
	if err := s.gorm.WithContext(ctx).Create(&w).Error; err != nil {
		return 0, fmt.Errorf("add webhook rule: %w", clean(err))
	}
	return w.ID, nil
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
