package cli

import (
	"fmt"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/spelling"
)

// didYouMean asks about the nearest of names at the end of a sentence, "" where none is near.
func didYouMean(name string, names []string) string {
	if near := spelling.Nearest(name, names); near != "" {
		return fmt.Sprintf("; did you mean %s?", near)
	}
	return ""
}

// clip cuts what somebody has written to so many characters, for a message.
func clip(text string, runes int) string {
	for i := range text {
		if runes == 0 {
			return text[:i] + "…"
		}
		runes--
	}
	return text
}
