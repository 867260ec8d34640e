package sender

import (
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

func TestParseRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                                0,
		"0":                               0,
		"1":                               time.Second,
		" 120\t":                          2 * time.Minute,
		"007":                             7 * time.Second,
		"86400":                           24 * time.Hour,
		"86401":                           24 * time.Hour,
		"9223372036854775807":             24 * time.Hour,
		strings.Repeat("9", 400):          24 * time.Hour,
		strings.Repeat("9", 400) + "x":    0,
		"-1":                              0,
		"+1":                              0,
		"1.5":                             0,
		"1e3":                             0,
		"0x10":                            0,
		"1, 2":                            0,
		"soon":                            0,
		"١٢":                              0,
		"Sun, 01 Mar 2026 12:01:00 GMT":   time.Minute,
		"Sunday, 01-Mar-26 12:01:00 GMT":  time.Minute,
		"Sun Mar  1 12:01:00 2026":        time.Minute,
		"Sun, 01 Mar 2026 11:59:00 GMT":   0,
		"Sun, 08 Mar 2026 12:00:00 GMT":   24 * time.Hour,
		"Fri, 31 Dec 9999 23:59:59 GMT":   24 * time.Hour,
		"Sun, 01 Mar 0001 11:59:00 GMT":   0,
		"Sun, 32 Mar 2026 12:01:00 GMT":   0,
		"2026-03-01T12:01:00Z":            0,
		"Sun, 01 Mar 2026 12:01:00 +0100": 0,
	} {
		if got := ParseRetryAfter(value, now); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}

func FuzzParseRetryAfter(f *testing.F) {
	for _, value := range []string{"1", "99999999999999999999", "Sun, 01 Mar 2026 12:01:00 GMT", "-1", " 5 "} {
		f.Add(value, int64(1_772_366_400))
	}
	f.Fuzz(func(t *testing.T, value string, now int64) {
		if got := ParseRetryAfter(value, time.Unix(now, 0)); got < 0 || got > delivery.MaxRetryAfter {
			t.Errorf("%q at %d: %v", value, now, got)
		}
	})
}
