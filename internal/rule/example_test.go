package rule_test

import (
	"fmt"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// A document of options is compiled without a database: with a row, which need not exist, and the secrets that go with it.
func ExampleCompiler_Compile() {
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		fmt.Println(err)
		return
	}
	document, err := rule.ParseDocument(`{
		"filter": "$data.is_active",
		"shape": "standard",
		"headers": {"X-Tenant": "campus-7"},
		"signing": {"scheme": "standard"},
		"timeout": "5s",
		"retry_schedule": ["5s", "5m", "2h"]
	}`)
	if err != nil {
		fmt.Println(err)
		return
	}
	compiler := rule.Compiler{Catalogue: catalogue}
	row := rule.Row{Event: "COURSE_ENROLLMENT_CREATED", URL: "https://hooks.example.org/s3cret", Enabled: true}

	_, hold, err := compiler.Compile(row, document, rule.Secrets{})
	fmt.Printf("held: %q %v\n", hold, err)

	secrets := rule.Secrets{Signing: []rule.SigningSecret{{Secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}}}
	r, hold, err := compiler.Compile(row, document, secrets)
	fmt.Println(r.EventType, r.Target, r.Shape, r.Limits.RetrySchedule)
	fmt.Printf("held: %q %v\n", hold, err)
	// Output:
	// held: "the scheme standard has no secret: add --secret SECRET" <nil>
	// org.openedx.learning.course.enrollment.created.v1 https://hooks.example.org standard [5s 5m0s 2h0m0s]
	// held: "" <nil>
}

// An option that this version does not know is an error: a rule without its filter would send what must not be sent.
func ExampleParseDocument() {
	_, err := rule.ParseDocument(`{"filtre": "$data.is_active"}`)
	fmt.Println(err)
	// Output:
	// the options are not as this version knows them: json: unknown field "filtre"
}

// A key names a rule in logs, in sentences and on the command line.
func ExampleKey() {
	key := rule.Key{Table: rule.Webfilters, ID: 7}
	fmt.Println(key, "|", key.Label(), "|", "rules show", key.Arguments())
	lane, ok := rule.KeyOf(key.Lane())
	fmt.Println(lane == key, ok)
	// Output:
	// webfilter rule 7 | webfilter 7 | rules show 7 --kind webfilter
	// true true
}
