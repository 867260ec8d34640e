package preset_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/plan"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/preset"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Every preset has a folder in testdata: what people give in each CASE.values.json and the options that come of it in CASE.options.golden,
// what a plain rule sends in each EVENT.event.json, and for each two of them the body that a rule of the preset sends in
// CASE-EVENT.golden; empty where its filter keeps the event out.
func TestBodies(t *testing.T) {
	t.Parallel()
	all, err := preset.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		folder := filepath.Join("testdata", r.Name)
		cases, events := glob(t, folder, ".values.json"), glob(t, folder, ".event.json")
		for _, given := range cases {
			options, made := ruleOf(t, &r, filepath.Join(folder, given+".values.json"))
			compare(t, filepath.Join(folder, given+".options.golden"), options+"\n")
			for _, name := range events {
				t.Run(r.Name+"/"+given+"-"+name, func(t *testing.T) {
					t.Parallel()
					body := "\n"
					if d := plan.Deliveries(message(t, filepath.Join(folder, name+".event.json")), []*rule.Rule{made}); len(d) > 0 {
						body = string(d[0].Body) + "\n"
						if d[0].Format != delivery.FormatJSON {
							t.Errorf("the body's format is %v", d[0].Format)
						}
					}
					compare(t, filepath.Join(folder, given+"-"+name+".golden"), body)
				})
			}
		}
	}
}

// glob returns the names of the folder's files of that kind, one at least.
func glob(t *testing.T, folder, kind string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(folder, "*"+kind))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no *%s in %s: %v", kind, folder, err)
	}
	for i, path := range paths {
		paths[i] = strings.TrimSuffix(filepath.Base(path), kind)
	}
	return paths
}

// ruleOf makes the options and the rule that somebody gets who gives the values of the file.
func ruleOf(t *testing.T, r *preset.Preset, given string) (options string, made *rule.Rule) {
	t.Helper()
	values := make(map[string]string)
	read(t, given, &values)
	document, err := r.Document(values)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	row := rule.Row{ID: 1, Created: time.Unix(1, 0), Event: r.Event, URL: "https://receiver.example.org/", Enabled: true}
	parsed, err := rule.ParseDocument(string(text))
	if err != nil {
		t.Fatal(err)
	}
	var secrets rule.Secrets
	if r.Secret != "" {
		secrets.Signing = []rule.SigningSecret{{Secret: "a secret"}}
	}
	compiler := rule.Compiler{Catalogue: catalogue}
	made, hold, err := compiler.Compile(row, parsed, secrets)
	if err != nil || hold != "" {
		t.Fatalf("%v, held: %s", err, hold)
	}
	if signal, ok := catalogue.ByConstant(r.Event); !ok || signal.Type != made.EventType || signal.Constant != r.Event {
		t.Errorf("the preset's event %q is no signal constant", r.Event)
	}
	return string(text), made
}

// message reads what a plain rule sends.
func message(t *testing.T, path string) *payload.Message {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := payload.ParseMessage(text)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return m
}

func read(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func compare(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: the body is\n%swant\n%s", path, got, want)
	}
}
