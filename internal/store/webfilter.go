package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// filterCells are the columns that webfilter rows have in addition to a webhook's.
func filterCells(row *rule.WebfilterRow) []cell {
	return []cell{
		{"description", row.Description},
		{"disable_filtering", tinyintOf(row.DisableFiltering)},
		{"disable_halt", tinyintOf(row.DisableHalt)},
		{"halt_on_4xx", tinyintOf(row.HaltOn4xx)},
		{"redirect_on_4xx", row.RedirectOn4xx},
		{"halt_on_5xx", tinyintOf(row.HaltOn5xx)},
		{"redirect_on_5xx", row.RedirectOn5xx},
		{"halt_on_request_exception", tinyintOf(row.HaltOnRequestException)},
		{"redirect_on_request_exception", row.RedirectOnRequestException},
	}
}

// fitsFilter returns an error if a value of filterCells does not fit the table.
func fitsFilter(row *rule.WebfilterRow) error {
	if !utf8.ValidString(row.Description) {
		return errors.New("the description is not UTF-8")
	}
	return errors.Join(
		fitsURL("redirect on 4xx", row.RedirectOn4xx),
		fitsURL("redirect on 5xx", row.RedirectOn5xx),
		fitsURL("redirect on request exception", row.RedirectOnRequestException))
}

// ChangeWebfilter calls change with a webfilter row and writes its description and flags, with a
// new modified time as Django sets it, if they differ; it reports whether they do. Other changes
// are ignored. change may be called again after a rollback; an error of it ends the call with
// nothing written. A missing row is a *NoRuleError. The account needs UPDATE on the plugin's table.
func (s *Store) ChangeWebfilter(ctx context.Context, id int32, change func(*rule.WebfilterRow) error) (changed bool, err error) {
	key := rule.Key{Table: rule.Webfilters, ID: id}
	err = s.transaction(ctx, "change "+key.String(), func(tx *sql.Tx) error {
		before, err := webfilterOf(ctx, tx, key)
		if err != nil {
			return err
		}
		after := before
		if err := change(&after); err != nil {
			return err
		}
		after.Row = before.Row
		if changed = after != before; !changed {
			return nil
		}
		if err := fitsFilter(&after); err != nil {
			return err
		}
		assignments, args := assign(filterCells(&after))
		_, err = tx.ExecContext(ctx, "UPDATE "+webfilter{}.TableName()+" SET "+assignments+", modified = UTC_TIMESTAMP(6) WHERE id = ?",
			append(args, id)...)
		return err
	})
	return changed && err == nil, err
}

// webfilterOf reads and locks a webfilter row.
func webfilterOf(ctx context.Context, tx *sql.Tx, key rule.Key) (rule.WebfilterRow, error) {
	var w webfilter
	err := tx.QueryRowContext(ctx, "SELECT "+strings.Join(webfilterColumns[:], ", ")+" FROM "+w.TableName()+" WHERE id = ? FOR UPDATE",
		key.ID).Scan(&w.ID, &w.Created, &w.Modified, &w.Description, &w.Event, &w.URL, &w.Enabled, &w.DisableFiltering, &w.DisableHalt,
		&w.HaltOn4xx, &w.RedirectOn4xx, &w.HaltOn5xx, &w.RedirectOn5xx, &w.HaltOnRequestException, &w.RedirectOnRequestException, &w.Form)
	if errors.Is(err, sql.ErrNoRows) {
		return rule.WebfilterRow{}, &NoRuleError{key}
	}
	return w.row(), err
}
