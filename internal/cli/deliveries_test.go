package cli

import (
	"strings"
	"testing"
	"time"
)

func TestTimeFlag(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for text, want := range map[string]string{
		"2h":                            "2026-03-04T03:06:07.000Z",
		"3d":                            "2026-03-01T05:06:07.000Z",
		"1d12h":                         "2026-03-02T17:06:07.000Z",
		"2026-03-04T05:06:07Z":          "2026-03-04T05:06:07.000Z",
		"2026-03-04T05:06:07.25+01:00":  "2026-03-04T04:06:07.250Z",
		"":                              "error",
		"0s":                            "error",
		"-2h":                           "error",
		"2":                             "error",
		"yesterday":                     "error",
		"2026-03-04":                    "error",
		"2026-03-04 05:06:07":           "error",
		"2026-03-04T05:06:07":           "error",
		"2026-02-30T05:06:07Z":          "error",
		"3d" + strings.Repeat("0", 400): "error",
	} {
		var f timeFlag
		got := "error"
		if f.UnmarshalText([]byte(text)) == nil {
			got = moment(f.From(now))
		}
		if got != want {
			t.Errorf("%q means %s, want %s", text, got, want)
		}
	}
	if !(timeFlag{}).From(now).IsZero() {
		t.Error("a flag that was not used has a time")
	}
}
