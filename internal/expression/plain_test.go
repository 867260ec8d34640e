package expression

import "github.com/openedx-webhooks/webhook-dispatcher/internal/payload"

func toJQ(v payload.Value) any      { return v.Plain() }
func fromJQ(v any) payload.Value    { return payload.FromPlain(v) }
func float(f float64) payload.Value { return payload.FromPlain(f) }
