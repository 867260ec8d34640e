package sender

import (
	"net/http"
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
	if value[0] >= '0' && value[0] <= '9' {
		return seconds(value)
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), delivery.MaxRetryAfter)
}

// seconds reads any number of digits without an overflow.
func seconds(digits string) time.Duration {
	var total time.Duration
	for _, c := range []byte(digits) {
		if c < '0' || c > '9' {
			return 0
		}
		if total < delivery.MaxRetryAfter {
			total = total*10 + time.Duration(c-'0')*time.Second
		}
	}
	return min(total, delivery.MaxRetryAfter)
}
