package expression

import (
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
)

const (
	typicalFilter    = `.event_metadata.event_type == "org.openedx.learning.student.registration.completed.v1" and $data.is_active`
	typicalTransform = `{user: $data.pii.username, mail: $data.pii.email, roles: [$data.roles[] | ascii_upcase], at: $event.time,
		text: "new: \($data.id)"}`
)

func BenchmarkFilter(b *testing.B) {
	p, err := Compile(typicalFilter, payload.Value{})
	if err != nil {
		b.Fatal(err)
	}
	m := message(b, userData)
	b.Run("first of an event", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if fires, err := p.Test(b.Context(), NewInput(m)); err != nil || !fires {
				b.Fatal(fires, err)
			}
		}
	})
	b.Run("further", func(b *testing.B) {
		in := NewInput(m)
		b.ReportAllocs()
		for b.Loop() {
			if fires, err := p.Test(b.Context(), in); err != nil || !fires {
				b.Fatal(fires, err)
			}
		}
	})
}

func BenchmarkTransform(b *testing.B) {
	p, err := Compile(typicalTransform, payload.Value{})
	if err != nil {
		b.Fatal(err)
	}
	in := NewInput(message(b, userData))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Apply(b.Context(), in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile(typicalTransform, payload.Value{}); err != nil {
			b.Fatal(err)
		}
	}
}
