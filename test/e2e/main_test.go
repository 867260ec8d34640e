//go:build e2e

// Package e2e tests the daemon's binary against real servers; package harness runs them.
//
// The servers start once per run. To keep them between runs, name a folder for their data:
//
//	WEBHOOK_DISPATCHER_E2E_DIR=/var/tmp/e2e go test -tags e2e -run TestName ./test/e2e/...
//	test/e2e/services/down /var/tmp/e2e/*
package e2e

import (
	"flag"
	"os"
	"strconv"
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// TestMain lets more tests run at once than there are processors, because most wait for a lease, a
// session or a schedule.
func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		if err := f.Value.Set(strconv.Itoa(atOnce)); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	harness.Stop(os.Stderr, code != 0)
}

// atOnce is how many tests run in parallel. Each has one or two daemons, and the machine may have
// two processors.
const atOnce = 6
