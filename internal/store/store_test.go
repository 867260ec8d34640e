package store_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/fakes"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	t.Parallel()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		db, err := fakes.StartDatabase()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
		runConformance(t, target{Name: "embedded", DSN: db.DSN()})
	})
	for _, target := range environment() {
		t.Run(target.Name, func(t *testing.T) {
			t.Parallel()
			runConformance(t, target)
		})
	}
}

// BenchmarkStore runs on the real servers that the environment names, and on none else.
func BenchmarkStore(b *testing.B) {
	for _, target := range environment() {
		b.Run(target.Name, func(b *testing.B) { benchmark(b, target) })
	}
}
