package fakes_test

import (
	"context"
	"database/sql"
	"sync"
	"testing"

	_ "github.com/go-sql-driver/mysql"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/fakes"
)

func startDatabase(t *testing.T) (*fakes.Database, *sql.DB) {
	t.Helper()
	d, err := fakes.StartDatabase()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := d.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
	})
	db, err := sql.Open("mysql", d.DSN())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if _, err := db.ExecContext(t.Context(), "CREATE TABLE counter (id INT PRIMARY KEY, n INT NOT NULL)"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), "INSERT INTO counter VALUES (1, 0)"); err != nil {
		t.Fatal(err)
	}
	return d, db
}

// TestDatabaseLosesNoUpdate lets transactions on several connections read and write one row: run
// side by side on the bare engine, the last to commit would win.
func TestDatabaseLosesNoUpdate(t *testing.T) {
	t.Parallel()
	_, db := startDatabase(t)
	const clients, times = 8, 10
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for range times {
				if err := increment(t.Context(), db); err != nil {
					t.Errorf("increment: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	var n int
	if err := db.QueryRowContext(t.Context(), "SELECT n FROM counter").Scan(&n); err != nil {
		t.Fatal(err)
	}
	if n != clients*times {
		t.Errorf("got %d after %d increments", n, clients*times)
	}
}

func increment(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after a commit
	var n int
	if err := tx.QueryRowContext(ctx, "SELECT n FROM counter WHERE id = 1").Scan(&n); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "UPDATE counter SET n = ? WHERE id = 1", n+1); err != nil {
		return err
	}
	return tx.Commit()
}

// TestDatabaseFreesTheTurn cuts a connection in the middle of its transaction: others go on, and
// nothing of it stays.
func TestDatabaseFreesTheTurn(t *testing.T) {
	t.Parallel()
	d, db := startDatabase(t)
	other, err := sql.Open("mysql", d.DSN())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := other.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{"START TRANSACTION", "UPDATE counter SET n = 77"} {
		if _, err := conn.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := db.QueryRowContext(t.Context(), "SELECT n FROM counter").Scan(&n); err != nil {
		t.Fatal(err)
	}
	if n != 0 {
		t.Errorf("the cut transaction left n = %d", n)
	}
}

func TestDatabaseClosesOpenConnections(t *testing.T) {
	t.Parallel()
	d, db := startDatabase(t)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := db.PingContext(t.Context()); err == nil {
		t.Error("the database answers after Close")
	}
}
