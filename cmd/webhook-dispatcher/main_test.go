package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"flag"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	_ "github.com/go-sql-driver/mysql" // "sql" speaks to the script's database
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/cli"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
)

var update = flag.Bool("update", false, "write what the scripts compare with into them")

// TestMain lets the test binary be the program: scripts run it as a process of its own, with the
// real main but for serve.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"webhook-dispatcher": func() {
		ctx, stop := untilSignal(context.Background(), os.Exit)
		code := cli.Run(ctx, os.Args[1:], &cli.Process{
			Environ: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Serve: serveStub,
		})
		stop()
		os.Exit(code)
	}})
}

// serveStub stands for the daemon: it says that it runs and stops in good order. In the group
// "stuck" it never stops.
func serveStub(ctx context.Context, cfg *config.Config, _ *slog.Logger) error {
	if err := os.WriteFile("serving", []byte(cfg.GroupID), 0o600); err != nil {
		return err
	}
	switch cfg.GroupID {
	case "broken":
		return errors.New("consume: broken on purpose")
	case "once":
		return nil
	}
	<-ctx.Done()
	if cfg.GroupID == "stuck" {
		if err := os.WriteFile("stopping", nil, 0o600); err != nil {
			return err
		}
		select {}
	}
	return nil
}

func TestScripts(t *testing.T) {
	t.Parallel()
	receiver := httptest.NewServer(http.HandlerFunc(receive))
	t.Cleanup(receiver.Close)
	database := buildDatabase(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("RECEIVER", receiver.URL)
			env.Setenv("GORACE", "atexit_sleep_ms=0") // else each command built with -race sleeps 1 s at its end
			return writeCertificate(filepath.Join(env.WorkDir, "secrets"))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code":     exitCode,
			"examples": runExamples,
			"database": startDatabase(database),
			"sql":      runSQL,
			"await":    awaitFile,
			"signal":   sendSignal,
		},
	})
}

// exitCode runs "code N program args…" and fails unless the program exits with N. What the program
// prints must not hold $CANARY, which stands in every secret of a script that sets it.
func exitCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N program args…")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("run %s: %v", args[1], err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
	noSecrets(ts)
}

// noSecrets fails if the last output holds $CANARY.
func noSecrets(ts *testscript.TestScript) {
	for _, output := range []string{"stdout", "stderr"} {
		if canary := ts.Getenv("CANARY"); canary != "" && strings.Contains(ts.ReadFile(output), canary) {
			ts.Fatalf("a secret is in %s", output)
		}
	}
}

// startDatabase returns the script command that starts a database and sets the DSN. The database is
// the program at path.
func startDatabase(path string) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, _ []string) {
		database := exec.Command(path)
		stdin, err := database.StdinPipe()
		ts.Check(err)
		stdout, err := database.StdoutPipe()
		ts.Check(err)
		ts.Check(database.Start())
		ts.Defer(func() {
			ts.Check(stdin.Close())
			ts.Check(database.Wait())
		})
		dsn, err := bufio.NewReader(stdout).ReadString('\n')
		ts.Check(err)
		ts.Setenv("WEBHOOK_DISPATCHER_MYSQL_DSN", strings.TrimSpace(dsn))
	}
}

// buildDatabase builds the program that runs the embedded database.
func buildDatabase(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "database")
	build := exec.Command("go", "build", "-o", path, "./testdata/database")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the database: %v\n%s", err, out)
	}
	return path
}

// runSQL runs "sql FILE": the statements of the file, each ended by a semicolon at the end of its
// line, on the script's database. $NAME in them is the value of an environment variable.
func runSQL(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: sql FILE")
	}
	db, err := sql.Open("mysql", ts.Getenv("WEBHOOK_DISPATCHER_MYSQL_DSN"))
	ts.Check(err)
	defer db.Close() //nolint:errcheck // a connection that cannot be closed changes no test
	for statement := range strings.SplitSeq(os.Expand(ts.ReadFile(args[0]), ts.Getenv), ";\n") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if _, err := db.ExecContext(context.Background(), statement); err != nil {
			ts.Fatalf("%s: %v", statement, err)
		}
	}
}
