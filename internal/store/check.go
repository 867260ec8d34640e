package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
)

// SchemaError says that the database lacks tables or rights, and what to do. Waiting cannot help.
type SchemaError struct{ text string }

// Error implements error.
func (e *SchemaError) Error() string { return e.text }

func schemaError(format string, args ...any) error {
	return &SchemaError{text: fmt.Sprintf(format, args...)}
}

// CheckSchema returns an error if this program cannot work with the database's tables; what only an
// operator can fix is a *SchemaError. It only reads. A schema newer than this program is accepted:
// during an upgrade old and new replicas run side by side.
func (s *Store) CheckSchema(ctx context.Context) error {
	need, err := SchemaVersion()
	if err != nil {
		return err
	}
	var have sql.NullInt64
	err = s.db.QueryRowContext(ctx, "SELECT MAX(version_id) FROM "+versionTable+" WHERE is_applied").Scan(&have)
	switch {
	case isNumber(err, errNoTable):
		return schemaError("database %s has no tables of webhook-dispatcher yet: run `webhook-dispatcher migrate`", s.target)
	case isNumber(err, errTableDenied):
		return schemaError("check schema of database %s: %v: either `webhook-dispatcher migrate` has not been run yet, "+
			"or the account lacks SELECT", s.target, bare(clean(err)))
	case err != nil:
		return fmt.Errorf("check schema of database %s: %w", s.target, clean(err))
	case have.Int64 < need:
		return schemaError("database schema is at version %d, this program needs %d: run `webhook-dispatcher migrate`", have.Int64, need)
	}
	return cmp.Or(s.checkTable(ctx, webhookTable, webhookColumns), s.checkTable(ctx, webfilterTable, webhookColumns+filterColumns))
}

// checkTable reads no row, which fails if the table or a column is missing or may not be read.
func (s *Store) checkTable(ctx context.Context, table, columns string) error {
	_, err := query(ctx, s.db, scanID, "SELECT "+columns+" FROM "+table+" LIMIT 0")
	switch {
	case isNumber(err, errNoTable):
		return schemaError("database %s has no table %s: %s", s.target, table, noPluginTable)
	case isNumber(err, errTableDenied, errColumnDenied):
		return schemaError("check table %s: %v", table, clean(err)) // which says what to grant
	case isNumber(err, errUnknownColumn):
		return schemaError("check table %s: %v: it belongs to openedx-webhooks before 1.0; update the plugin", table, clean(err))
	case err != nil:
		return fmt.Errorf("check table %s: %w", table, clean(err))
	}
	return nil
}
