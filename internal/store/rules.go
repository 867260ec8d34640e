package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// webfilter is a row of the plugin's table; see webhook.
type webfilter struct {
	ID                         int32     `gorm:"column:id;primaryKey;autoIncrement"`
	Created                    time.Time `gorm:"column:created"`
	Modified                   time.Time `gorm:"column:modified"`
	Description                string    `gorm:"column:description"`
	Event                      string    `gorm:"column:event"`
	URL                        string    `gorm:"column:webhook_url"`
	Enabled                    tinyint   `gorm:"column:enabled"`
	DisableFiltering           tinyint   `gorm:"column:disable_filtering"`
	DisableHalt                tinyint   `gorm:"column:disable_halt"`
	HaltOn4xx                  tinyint   `gorm:"column:halt_on_4xx"`
	RedirectOn4xx              string    `gorm:"column:redirect_on_4xx"`
	HaltOn5xx                  tinyint   `gorm:"column:halt_on_5xx"`
	RedirectOn5xx              string    `gorm:"column:redirect_on_5xx"`
	HaltOnRequestException     tinyint   `gorm:"column:halt_on_request_exception"`
	RedirectOnRequestException string    `gorm:"column:redirect_on_request_exception"`
	Form                       tinyint   `gorm:"column:use_www_form_encoding"`
}

// TableName implements GORM's Tabler.
func (webfilter) TableName() string { return "openedx_webhooks_webfilter" }

var webfilterColumns = [...]string{
	"id", "created", "modified", "description", "event", "webhook_url", "enabled", "disable_filtering", "disable_halt",
	"halt_on_4xx", "redirect_on_4xx", "halt_on_5xx", "redirect_on_5xx", "halt_on_request_exception", "redirect_on_request_exception",
	"use_www_form_encoding",
}

func (w *webfilter) row() rule.WebfilterRow {
	return rule.WebfilterRow{
		Row: rule.Row{
			ID: w.ID, Created: w.Created, Modified: w.Modified, Event: w.Event, URL: w.URL, Enabled: w.Enabled != 0, Form: w.Form != 0,
		},
		Description: w.Description,
		WebfilterFlags: rule.WebfilterFlags{
			DisableFiltering: w.DisableFiltering != 0, DisableHalt: w.DisableHalt != 0,
			HaltOn4xx: w.HaltOn4xx != 0, RedirectOn4xx: w.RedirectOn4xx, HaltOn5xx: w.HaltOn5xx != 0, RedirectOn5xx: w.RedirectOn5xx,
			HaltOnRequestException: w.HaltOnRequestException != 0, RedirectOnRequestException: w.RedirectOnRequestException,
		},
	}
}

// Rules returns the rows of the plugin's tables and their options at one moment: it reads a
// snapshot, so that a rule and its options appear together.
func (s *Store) Rules(ctx context.Context) (tables rule.Tables, err error) {
	begun := false
	err = s.gorm.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		begun = true
		if tables.Webhooks, err = readWebhooks(tx); err != nil {
			return err
		}
		var filters []webfilter
		if err := tx.Select(webfilterColumns[:]).Order("id").Find(&filters).Error; err != nil {
			return fmt.Errorf("read webfilter rules: %w", clean(err))
		}
		tables.Webfilters = make([]rule.WebfilterRow, len(filters))
		for i := range filters {
			tables.Webfilters[i] = filters[i].row()
		}
		tables.Options, err = readOptions(tx)
		return err
	}, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	switch {
	case err != nil && !begun:
		return rule.Tables{}, fmt.Errorf("read rules from database %s: %w", s.target, clean(err))
	case err != nil:
		return rule.Tables{}, clean(err)
	}
	return tables, nil
}
