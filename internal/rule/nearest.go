package rule

import (
	"github.com/openedx-webhooks/webhook-dispatcher/internal/suggest"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// allConstants is where to look when an event is none.
const allConstants = "webhook-dispatcher events list shows all"

// nearestConstant returns the constant that an event was probably meant to be, "" where none is near. Events that never come are none.
func nearestConstant(event string, catalogue *schema.Catalogue) string {
	var constants []string
	for _, signal := range catalogue.Signals() {
		if signal.OnBus {
			constants = append(constants, signal.Constant)
		}
	}
	return suggest.Nearest(event, constants)
}
