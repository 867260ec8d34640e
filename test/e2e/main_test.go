//go:build e2e

// Package e2e runs the daemon's binary against real servers: Apache Kafka, Apicurio Registry and MariaDB, the platform's own
// publisher, and tables made by the plugin's own Django migrations. The daemon, its migrations and its rules commands use
// accounts with the grants that they have in production.
//
// Servers are started once for a run; each test has topics, a consumer group, a database and a receiver of its own, and
// those that restart a server have that to themselves. To keep the servers between runs, name a folder for them:
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

// TestMain lets more tests run at once than there are processors: most of them wait for a lease, a session or a schedule.
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

// atOnce is how many tests run at the same time. Each has one daemon or two, and the machine that runs them may have two processors.
const atOnce = 6
