package admin_test

import (
	"strings"
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
)

func TestDeliveryRef(t *testing.T) {
	t.Parallel()
	digits := strings.Repeat("12", 16) // hexadecimal, though it looks like a number
	for text, want := range map[string]string{
		"1":                     "1",
		"007":                   "7",
		"18446744073709551615":  "18446744073709551615",
		"msg_" + digits:         "msg_" + digits,
		digits:                  "msg_" + digits,
		"":                      "error",
		"0":                     "error",
		"-1":                    "error",
		"18446744073709551616":  "error",
		"msg_1":                 "error",
		"msg_" + digits + "12":  "error",
		"MSG_" + digits:         "error",
		strings.Repeat("g", 32): "error",
	} {
		var r admin.DeliveryRef
		got := "error"
		if r.UnmarshalText([]byte(text)) == nil {
			got = r.String()
		}
		if got != want {
			t.Errorf("%q names %s, want %s", text, got, want)
		}
	}
}
