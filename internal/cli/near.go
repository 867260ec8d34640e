package cli

import (
	"fmt"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/suggest"
)

// didYouMean asks about the nearest of names at the end of a sentence, "" where none is near.
func didYouMean(name string, names []string) string {
	if near := suggest.Nearest(name, names); near != "" {
		return fmt.Sprintf("; did you mean %s?", near)
	}
	return ""
}
