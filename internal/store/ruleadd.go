package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// cell is a column and its value.
type cell struct {
	column string
	value  any
}

// AddWebhook creates a row of the plugin's webhook table and returns its id. It ignores ID, Created
// and Modified; both times are the database's. option, if not nil, returns the rule's option or
// nil, which is written in the same transaction. It may be called again with another id after a
// rollback; an error of it ends the call with nothing written. It must not set Key, RuleCreated,
// URLSum and Version. The account needs INSERT on the plugin's table.
func (s *Store) AddWebhook(
	ctx context.Context, row rule.Row, option func(id int32, created time.Time) (*rule.Option, error),
) (id int32, err error) {
	return s.addRule(ctx, "add webhook rule", rule.Webhooks, row, nil, option)
}

// AddWebfilter is AddWebhook for the webfilter table.
func (s *Store) AddWebfilter(
	ctx context.Context, row rule.WebfilterRow, option func(id int32, created time.Time) (*rule.Option, error),
) (id int32, err error) {
	const what = "add webfilter rule"
	if err := fitsFilter(&row); err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	return s.addRule(ctx, what, rule.Webfilters, row.Row, filterCells(&row), option)
}

// addRule creates a row of one of the plugin's tables; more holds columns that webhooks lack.
func (s *Store) addRule(
	ctx context.Context, what string, table rule.Table, row rule.Row, more []cell,
	option func(id int32, created time.Time) (*rule.Option, error),
) (id int32, err error) {
	if n := utf8.RuneCountInString(row.Event); n > rule.MaxEvent || !utf8.ValidString(row.Event) {
		return 0, fmt.Errorf("%s: the event %q has %d characters, the column takes %d", what, valid(delivery.Cut(row.Event, 60)), n, rule.MaxEvent)
	}
	if err := fitsURL("URL", row.URL); err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	err = s.transaction(ctx, what, func(tx *sql.Tx) error {
		if err := insertRule(ctx, tx, table, &row, more); err != nil || option == nil {
			return err
		}
		made, err := option(row.ID, row.Created)
		if err != nil || made == nil {
			return err
		}
		key := rule.Key{Table: table, ID: row.ID}
		o, identity := *made, newOption(key, &row)
		o.Key, o.RuleCreated, o.URLSum = identity.Key, identity.RuleCreated, identity.URLSum
		stored, err := lockOption(ctx, tx, key) // of a former rule
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

func fitsURL(name, url string) error {
	if n := utf8.RuneCountInString(url); n > rule.MaxURL || !utf8.ValidString(url) {
		return fmt.Errorf("the %s has %d characters, the column takes %d of valid UTF-8", name, n, rule.MaxURL)
	}
	return nil
}

// insertRule inserts a row and sets its ID and Created.
func insertRule(ctx context.Context, tx *sql.Tx, table rule.Table, row *rule.Row, more []cell) error {
	name, err := ruleTable(rule.Key{Table: table})
	if err != nil {
		return err
	}
	if err := tx.QueryRowContext(ctx, "SELECT UTC_TIMESTAMP(6)").Scan(&row.Created); err != nil {
		return err
	}
	row.Created = row.Created.Truncate(time.Microsecond) // the embedded database returns more digits
	cells := append([]cell{
		{"created", row.Created},
		{"modified", row.Created},
		{"event", row.Event},
		{"webhook_url", row.URL},
		{"enabled", tinyintOf(row.Enabled)},
		{"use_www_form_encoding", tinyintOf(row.Form)},
	}, more...)
	assignments, args := assign(cells)
	result, err := tx.ExecContext(ctx, "INSERT INTO "+name+" SET "+assignments, args...)
	if err != nil {
		return err
	}
	last, err := result.LastInsertId()
	row.ID = int32(last)
	return err
}

// assign returns the assignments of a statement and their values.
func assign(cells []cell) (assignments string, args []any) {
	parts := make([]string, len(cells))
	args = make([]any, len(cells))
	for i, c := range cells {
		parts[i], args[i] = c.column+" = ?", c.value
	}
	return strings.Join(parts, ", "), args
}
