package decode

import (
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// The event that the benchmarks publish most: an enrolment of about 1 KiB as JSON.
func benchFixture(b *testing.B) (Decoder, *wireFixture) {
	b.Helper()
	for _, f := range wireFixtures(b) {
		if f.name == "learning.course.enrollment.created.v1--named" {
			return newDecoder(b, mustSchema(b, f.ValueSchema)), &f
		}
	}
	b.Fatal("no fixture")
	return nil, nil
}

func BenchmarkEnvelope(b *testing.B) {
	d, f := benchFixture(b)
	rec := f.record()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Envelope(rec); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMessage(b *testing.B) {
	d, f := benchFixture(b)
	rec := f.record()
	ev, err := d.Envelope(rec)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(rec.Value)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Message(b.Context(), rec, ev); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBody(b *testing.B) {
	for name, format := range map[string]delivery.Format{"json": delivery.FormatJSON, "form": delivery.FormatForm} {
		b.Run(name, func(b *testing.B) {
			d, f := benchFixture(b)
			rec := f.record()
			ev, err := d.Envelope(rec)
			if err != nil {
				b.Fatal(err)
			}
			m, err := d.Message(b.Context(), rec, ev)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(m.Body(format))))
			b.ReportAllocs()
			for b.Loop() {
				m.Body(format)
			}
		})
	}
}
