package sender

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// ParseRetryAfter reads a Retry-After header (RFC 9110, 10.2.3): whole seconds, or an HTTP date
// relative to now. It returns 0 to delivery.MaxRetryAfter; 0 if it is neither, or in the past.
func ParseRetryAfter(value string, now time.Time) time.Duration {
	value = strings.Trim(value, " \t")
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, _ := strconv.ParseUint(value, 10, 64) // the largest number on overflow
		return time.Duration(min(seconds, uint64(delivery.MaxRetryAfter/time.Second))) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), delivery.MaxRetryAfter)
}
