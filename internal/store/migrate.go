package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

const (
	versionTable = "webhook_dispatcher_migration"
	lockPatience = 60 * time.Second // for which Migrate waits for another one
)

// MigrateOptions configure Migrate.
type MigrateOptions struct {
	// WithPluginTables also creates the plugin's two tables, for a database without Django. It is
	// refused if Django keeps migrations there: it would later fail to create the tables itself.
	WithPluginTables bool
}

// Migrated is what Migrate did.
type Migrated struct {
	From, To int64    // schema versions; equal if there was nothing to do
	Steps    []string // files of the migrations that ran
}

// Migrate migrates the dispatcher's tables to this program's version. Concurrent calls wait for
// each other, up to 60 s, on a lock of the server. Steps are repeatable: after a crash, call it
// again. A newer schema is left alone. The account needs the rights to create and alter tables.
func Migrate(ctx context.Context, o Options, m MigrateOptions) (Migrated, error) {
	// Only ctx bounds steps and the lock.
	s, err := open(o, 0)
	if err != nil {
		return Migrated{}, err
	}
	defer s.Close() //nolint:errcheck // nothing is left to save
	done, err := s.migrate(ctx, m)
	if err != nil {
		return Migrated{}, fmt.Errorf("migrate database %s: %w", s.target, err)
	}
	return done, nil
}

func (s *Store) migrate(ctx context.Context, m MigrateOptions) (done Migrated, err error) {
	unlock, err := s.lockMigrations(ctx)
	if err != nil {
		return Migrated{}, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if m.WithPluginTables {
		_, django, err := readOne(ctx, s, "look for table django_migrations", scalar[int],
			"SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'django_migrations'")
		switch {
		case err != nil:
			return Migrated{}, err
		case django:
			return Migrated{}, errors.New("--with-plugin-tables is refused: the database belongs to Django (it has a table django_migrations), " +
				"which creates the plugin's tables itself (manage.py migrate openedx_webhooks)")
		}
	}
	if done, err = s.runMigrations(ctx); err != nil {
		return Migrated{}, err
	}
	if m.WithPluginTables {
		tables, err := schema.PluginTables()
		if err != nil {
			return Migrated{}, err
		}
		for _, table := range tables {
			if _, err := s.db.ExecContext(ctx, table.Create); err != nil {
				return Migrated{}, fmt.Errorf("create table %s: %w", table.Name, denied(err))
			}
		}
	}
	return done, nil
}

func (s *Store) runMigrations(ctx context.Context) (done Migrated, err error) {
	if err := s.createVersionTable(ctx); err != nil {
		return Migrated{}, err
	}
	files, err := schema.Migrations()
	if err != nil {
		return Migrated{}, err
	}
	provider, err := goose.NewProvider(goose.DialectMySQL, s.db, files,
		goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return Migrated{}, fmt.Errorf("read migrations: %w", err)
	}
	// The provider is not closed: that would close the store's connections.
	if done.From, err = provider.GetDBVersion(ctx); err != nil {
		return Migrated{}, fmt.Errorf("read schema version: %w", denied(err))
	}
	results, err := provider.Up(ctx)
	if err != nil {
		return Migrated{}, migrationError(err)
	}
	done.To = done.From
	for _, result := range results {
		name := path.Base(result.Source.Path)
		s.log.InfoContext(ctx, "migration applied", "step", name, "duration", result.Duration)
		done.Steps = append(done.Steps, name)
		done.To = max(done.To, result.Source.Version)
	}
	return done, nil
}

// migrationError names the failed step; goose's text quotes the whole statement.
func migrationError(err error) error {
	if partial, ok := errors.AsType[*goose.PartialError](err); ok && partial.Failed != nil {
		return fmt.Errorf("step %s: %w", path.Base(partial.Failed.Source.Path), denied(partial.Err))
	}
	return denied(err)
}

// createVersionTable creates goose's table as goose would, but in repeatable steps: goose cannot
// recover from a crash between the table and its first row.
func (s *Store) createVersionTable(ctx context.Context) error {
	for _, statement := range [...]string{
		`CREATE TABLE IF NOT EXISTS ` + versionTable + ` (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT, version_id BIGINT NOT NULL,
  is_applied BOOL NOT NULL, tstamp DATETIME NULL DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (id)) ENGINE=InnoDB`,
		`INSERT INTO ` + versionTable + ` (id, version_id, is_applied) VALUES (1, 0, TRUE) ON DUPLICATE KEY UPDATE id = id`,
	} {
		if _, err := s.db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("create table %s: %w", versionTable, denied(err))
		}
	}
	return nil
}

// lockMigrations takes the server's lock for this database, on its own connection: the lock ends
// with it.
func (s *Store) lockMigrations(ctx context.Context) (unlock func() error, err error) {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return nil, denied(err)
	}
	var database string
	if err := conn.QueryRowContext(ctx, "SELECT DATABASE()").Scan(&database); err != nil {
		return nil, errors.Join(fmt.Errorf("read name of database: %w", denied(err)), conn.Close())
	}
	// Lock names are server-wide and have at most 64 characters.
	name := fmt.Sprintf("webhook-dispatcher-migrate-%x", sha256.Sum256([]byte(database)))[:64]
	var got sql.NullInt64
	if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK(?, ?)", name, int(lockPatience.Seconds())).Scan(&got); err != nil {
		return nil, errors.Join(fmt.Errorf("take migration lock: %w", denied(err)), conn.Close())
	}
	if got.Int64 != 1 {
		return nil, errors.Join(fmt.Errorf("another migration has been running for %s; try again when it is done", lockPatience), conn.Close())
	}
	return func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ioTimeout)
		defer cancel()
		var released sql.NullInt64
		err := conn.QueryRowContext(ctx, "SELECT RELEASE_LOCK(?)", name).Scan(&released)
		if err != nil {
			err = fmt.Errorf("release migration lock: %w", denied(err))
		}
		return errors.Join(err, conn.Close())
	}, nil
}

// SchemaVersion returns the schema version that this program needs.
func SchemaVersion() (int64, error) {
	files, err := schema.Migrations()
	if err != nil {
		return 0, err
	}
	names, err := fs.Glob(files, "*.sql") // in order
	if err != nil {
		return 0, fmt.Errorf("list migrations: %w", err)
	}
	return goose.NumericComponent(names[len(names)-1])
}

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
