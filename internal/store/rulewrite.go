package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// NewOption makes the option of a rule that is being added, or returns nil for none. It may be
// called again with another id if other transactions undid the first try. The store sets the
// option's Key, RuleCreated, URLSum and Version.
type NewOption = func(id int32, created time.Time) (*rule.Option, error)

// AddWebhook adds a row to the plugin's webhook table, and the option that option makes unless
// option is nil, in one transaction. It returns the row's id. The row's ID is the database's, and
// so are Created and Modified. An error of option ends it and is in the error returned. The account
// needs INSERT on the plugin's table.
func (s *Store) AddWebhook(ctx context.Context, row rule.Row, option NewOption) (id int32, err error) {
	return s.addRule(ctx, "add webhook rule", rule.WebfilterRow{Row: row}, rule.Webhooks, option)
}

// AddWebfilter is AddWebhook for the plugin's webfilter table.
func (s *Store) AddWebfilter(ctx context.Context, row rule.WebfilterRow, option NewOption) (id int32, err error) {
	return s.addRule(ctx, "add webfilter rule", row, rule.Webfilters, option)
}

func (s *Store) addRule(ctx context.Context, what string, row rule.WebfilterRow, table rule.Table, option NewOption) (id int32, err error) {
	if err := fits(&row); err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	return transaction(ctx, s, what, func(tx *sql.Tx) (int32, error) {
		row := row
		if err := insertRule(ctx, tx, table, &row); err != nil || option == nil {
			return row.ID, err
		}
		made, err := option(row.ID, row.Created)
		if err != nil || made == nil {
			return row.ID, err
		}
		key := rule.Key{Table: table, ID: row.ID}
		o, identity := *made, newOption(key, &row.Row)
		o.Key, o.RuleCreated, o.URLSum = identity.Key, identity.RuleCreated, identity.URLSum
		earlier, err := lockOption(ctx, tx, key) // of an earlier rule with the same id
		if err != nil {
			return 0, err
		}
		o = normal(o)
		return row.ID, writeOption(ctx, tx, &o, earlier != nil)
	})
}

// insertRule inserts a row and sets its ID, Created and Modified.
func insertRule(ctx context.Context, tx *sql.Tx, table rule.Table, row *rule.WebfilterRow) (err error) {
	if row.Created, err = now(ctx, tx, time.Microsecond); err != nil {
		return err
	}
	row.Modified = row.Created
	text := " SET created = ?, modified = ?, event = ?, webhook_url = ?, enabled = ?, use_www_form_encoding = ?"
	args := []any{row.Created, row.Modified, row.Event, row.URL, row.Enabled, row.Form}
	if table == rule.Webfilters {
		text, args = "INSERT INTO "+webfilterTable+text+filterSet, append(args, filterArgs(row)...)
	} else {
		text = "INSERT INTO " + webhookTable + text
	}
	result, err := tx.ExecContext(ctx, text, args...)
	if err != nil {
		return err
	}
	id, err := result.LastInsertId()
	row.ID = int32(id)
	return err
}

// fits returns why the plugin's tables cannot hold a row.
func fits(row *rule.WebfilterRow) error {
	if n := utf8.RuneCountInString(row.Event); n > rule.MaxEvent || !utf8.ValidString(row.Event) {
		return fmt.Errorf("the event %q has %d characters, the column takes %d", valid(delivery.Cut(row.Event, 60)), n, rule.MaxEvent)
	}
	if !utf8.ValidString(row.Description) {
		return errors.New("the description is not UTF-8")
	}
	return errors.Join(
		fitsURL("URL", row.URL),
		fitsURL("redirect on 4xx", row.RedirectOn4xx),
		fitsURL("redirect on 5xx", row.RedirectOn5xx),
		fitsURL("redirect on request exception", row.RedirectOnRequestException))
}

func fitsURL(name, url string) error {
	if n := utf8.RuneCountInString(url); n > rule.MaxURL || !utf8.ValidString(url) {
		return fmt.Errorf("the %s has %d characters, the column takes %d of valid UTF-8", name, n, rule.MaxURL)
	}
	return nil
}

// ChangeWebfilter lets change edit the description and flags of a webfilter row, and reports whether
// they differ: then they are written, and the row's modified moves on as in Django. Edits of other
// columns are ignored. An error of change ends it, with nothing written, and is in the error
// returned. change may be called again if other transactions undid the first try. A missing row is
// a *NoRuleError. The account needs UPDATE on the plugin's table.
func (s *Store) ChangeWebfilter(ctx context.Context, id int32, change func(*rule.WebfilterRow) error) (changed bool, err error) {
	key := rule.Key{Table: rule.Webfilters, ID: id}
	return transaction(ctx, s, "change "+key.String(), func(tx *sql.Tx) (bool, error) {
		var before rule.WebfilterRow
		if err := s.webfilters(ctx, tx).Clauses(forUpdate).Where("id = ?", id).Take(&before).Error; err != nil {
			return false, noRule(err, key)
		}
		after := before
		if err := change(&after); err != nil {
			return false, err
		}
		if after.Row = before.Row; after == before {
			return false, nil
		}
		if err := fits(&after); err != nil {
			return false, err
		}
		at, err := now(ctx, tx, time.Microsecond)
		if err != nil {
			return false, err
		}
		_, err = tx.ExecContext(ctx, "UPDATE "+webfilterTable+" SET modified = ?"+filterSet+" WHERE id = ?",
			append(append([]any{at}, filterArgs(&after)...), id)...)
		return true, err
	})
}
