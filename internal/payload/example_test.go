package payload_test

import (
	"fmt"
	"strings"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
)

// The three shapes of one event. Expressions work on the data, which is the same in all of them.
func ExampleMessage_Shaped() {
	message, err := payload.ParseMessage([]byte(`{
		"openedx_events.learning.data.BadgeData": {"uuid": "b1"},
		"event_metadata": {
			"event_type": "org.openedx.learning.badge.awarded.v1", "id": "e1", "source": "openedx/lms/web",
			"sourcehost": "lms-1", "time": "2026-03-01 10:00:00.000000+00:00", "minorversion": 0, "sourcelib": [9, 0, 0]
		}
	}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, shape := range []payload.Shape{payload.ShapeStandard, payload.ShapeCloudEvents} {
		fmt.Printf("%s: %s\n", shape, lines(payload.AppendJSON(nil, message.Shaped(shape))))
	}
	plugin := message.Shaped(payload.ShapePlugin)
	data, _ := plugin.Get("openedx_events.learning.data.BadgeData")
	fmt.Printf("%s: %s, and event_metadata\n", payload.ShapePlugin, payload.AppendJSON(nil, data))
	// Output:
	// standard: {"type": "org.openedx.learning.badge.awarded.v1",
	//   "timestamp": "2026-03-01T10:00:00Z",
	//   "data": {"uuid": "b1"}}
	// cloudevents: {"specversion": "1.0",
	//   "id": "e1",
	//   "source": "openedx/lms/web",
	//   "type": "org.openedx.learning.badge.awarded.v1",
	//   "time": "2026-03-01T10:00:00Z",
	//   "datacontenttype": "application/json",
	//   "sourcehost": "lms-1",
	//   "minorversion": 0,
	//   "sourcelib": "9.0.0",
	//   "data": {"uuid": "b1"}}
	// plugin: {"uuid": "b1"}, and event_metadata
}

// lines puts each member of a JSON object on a line of its own.
func lines(object []byte) string { return strings.ReplaceAll(string(object), ", ", ",\n  ") }
