package expression_test

import (
	"context"
	"fmt"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/expression"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/event"
)

func value(text string) payload.Value {
	v, err := payload.ParseJSON([]byte(text))
	if err != nil {
		panic(err)
	}
	return v
}

func input() *expression.Input {
	data := value(`{"user": {"pii": {"username": "ada"}}, "mode": "verified",
		"course": {"course_key": "course-v1:edX+DemoX+2026"}}`)
	return expression.NewInput(&payload.Message{
		Event: event.Event{
			Type: "org.openedx.learning.course.enrollment.created.v1", ID: "5a3e",
			Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		},
		Data: payload.ObjectValue([]string{"openedx_events.learning.data.CourseEnrollmentData"}, []payload.Value{data}),
	})
}

// A filter says whether the rule fires.
func ExampleProgram_Test() {
	p, err := expression.Compile(`$data.mode == "verified" and ($data.course.course_key | startswith("course-v1:edX"))`,
		payload.Value{})
	if err != nil {
		panic(err)
	}
	fmt.Println(p.Test(context.Background(), input()))
	// Output: true <nil>
}

// A transform makes what the rule sends.
func ExampleProgram_Apply() {
	p, err := expression.Compile(`{id: $event.id, who: $data.user.pii.username, text: "enrolled as \($data.mode)"}`,
		payload.Value{})
	if err != nil {
		panic(err)
	}
	v, err := p.Apply(context.Background(), input())
	fmt.Println(string(payload.AppendJSON(nil, v)), err)
	// Output: {"id": "5a3e", "text": "enrolled as verified", "who": "ada"} <nil>
}

// $params are the parameters of the rule: one expression for several rules.
func ExampleCompile_params() {
	p, err := expression.Compile(`$data.course.course_key as $key | any($params.courses[]; . == $key)`,
		value(`{"courses": ["course-v1:edX+DemoX+2026"]}`))
	if err != nil {
		panic(err)
	}
	fmt.Println(p.Test(context.Background(), input()))
	// Output: true <nil>
}

// What is not on the list of functions is refused when it is compiled.
func ExampleCompile_refused() {
	for _, text := range []string{`.time < now`, `$data.roles | sorted`} {
		_, err := expression.Compile(text, payload.Value{})
		fmt.Println(err)
	}
	// Output:
	// now is not allowed: it depends on when it runs; the time of the event is $event.time
	// the expression does not compile: function not defined: sorted/0: did you mean sort?
}
