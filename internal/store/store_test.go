package store_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/embedded"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	t.Parallel()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		db, err := embedded.StartDatabase()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
		storetest.Run(t, storetest.Target{Name: "embedded", DSN: db.DSN()})
	})
	for _, target := range storetest.Environment() {
		t.Run(target.Name, func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, target)
		})
	}
}

// BenchmarkStore runs on the real servers that the environment names, and on none else.
func BenchmarkStore(b *testing.B) {
	for _, target := range storetest.Environment() {
		b.Run(target.Name, func(b *testing.B) { storetest.Benchmark(b, target) })
	}
}
