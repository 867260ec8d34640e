package config

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
)

var update = flag.Bool("update", false, "write the golden files")

// grammar is a command line with all settings, as serve has it.
type grammar struct {
	File
	Config
}

// good is the least environment with which serve starts.
func good(more ...string) []string {
	return append([]string{
		"EVENT_BUS_KAFKA_BOOTSTRAP_SERVERS=kafka:9092", "EVENT_BUS_KAFKA_SCHEMA_REGISTRY_URL=http://registry:8081",
		"WEBHOOK_DISPATCHER_TOPICS=course-enrollment-lifecycle",
		"WEBHOOK_DISPATCHER_MYSQL_DSN=dispatcher:hunter2@tcp(mysql:3306)/openedx",
	}, more...)
}

func parse(t *testing.T, environ []string, args ...string) (*Config, *Loader, error) {
	t.Helper()
	var g grammar
	loader := NewLoader(environ)
	parser, err := kong.New(&g, loader.Options()...)
	if err != nil {
		t.Fatalf("build the grammar: %v", err)
	}
	if _, err := parser.Parse(args); err != nil {
		t.Fatalf("parse %q: %v", args, err)
	}
	return &g.Config, loader, loader.Finish(&g.Config)
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c, loader, err := parse(t, good("EVENT_BUS_TOPIC_PREFIX=dev"))
	if err != nil {
		t.Fatal(err)
	}
	if w := loader.Warnings(); len(w) != 0 {
		t.Errorf("warnings: %q", w)
	}
	h := time.Hour
	want := []time.Duration{5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * h, 5 * h, 10 * h, 14 * h, 20 * h, 24 * h}
	if !reflect.DeepEqual(c.RetrySchedule, want) {
		t.Errorf("retry schedule %v", c.RetrySchedule)
	}
	for name, ok := range map[string]bool{
		"group id":  c.GroupID == "dev-webhook-dispatcher",
		"topics":    len(c.Topics) == 1 && c.FullTopic(c.Topics[0]) == "dev-course-enrollment-lifecycle",
		"timeout":   c.Timeout == 10*time.Second && c.HandOffAfter == 500*time.Millisecond,
		"limits":    c.EndpointConcurrency == 64 && c.Concurrency == 1024 && c.EndpointRate == 0,
		"park":      c.QueueLimitRuleRows == 100_000 && c.QueueLimitRows == 1_000_000 && c.QueueLimitBytes == 4<<30,
		"overflow":  c.QueueOverflow == "hold" && c.AttemptLog == "failed",
		"rules":     c.RulesSource == "enabled" && c.RulesRefresh == 5*time.Second,
		"log":       c.LogFormat == "json" && c.LogLevel == "info",
		"start":     c.StartOffset == "latest" && c.Listen == ":8080" && !c.MetricsPerRule,
		"budget":    c.FetchBudget == 32<<20,
		"filters":   c.FilterListen == "" && c.Tokens() == nil && c.FilterDeadline == 2*time.Second,
		"retention": c.RetentionDelivered == 24*h && c.RetentionDead == 30*24*h,
		"tls":       !c.TLSToKafka(),
	} {
		if !ok {
			t.Errorf("%s: not the default: %+v", name, c)
		}
	}
	d := Default()
	d.BootstrapServers, d.SchemaRegistryURL, d.Topics, d.MySQLDSN, d.TopicPrefix =
		c.BootstrapServers, c.SchemaRegistryURL, c.Topics, c.MySQLDSN, c.TopicPrefix
	if err := d.Check(); err != nil {
		t.Errorf("validate the defaults: %v", err)
	}
	if !reflect.DeepEqual(&d, c) {
		t.Errorf("Default() differs from what the command line gives:\n%+v\n%+v", d, *c)
	}
}

func TestGroupIDWithoutPrefix(t *testing.T) {
	t.Parallel()
	c, _, err := parse(t, good())
	if err != nil || c.GroupID != "webhook-dispatcher" {
		t.Errorf("group %q, %v", c.GroupID, err)
	}
}

func TestWeight(t *testing.T) {
	t.Parallel()
	path := writeFile(t, "settings.yaml", `
timeout: 1s
hand-off-after: 10ms
retry_schedule: [1s, 2m]
rules: {refresh: 7s}
group.id: from-file
WEBHOOK_DISPATCHER_LISTEN: "127.0.0.1:0"
concurrency: ~
egress-allow:
- 10.0.0.0/8
- fd00::/8
`)
	c, _, err := parse(t, good("WEBHOOK_DISPATCHER_CONFIG="+path, "WEBHOOK_DISPATCHER_TIMEOUT=2s", "WEBHOOK_DISPATCHER_HAND_OFF_AFTER=20ms",
		"WEBHOOK_DISPATCHER_GROUP_ID="), "--timeout=3s")
	if err != nil {
		t.Fatal(err)
	}
	if c.Timeout != 3*time.Second || c.HandOffAfter != 20*time.Millisecond {
		t.Errorf("flag over environment over file: %v %v", c.Timeout, c.HandOffAfter)
	}
	if c.GroupID != "from-file" || c.RulesRefresh != 7*time.Second || c.Listen != "127.0.0.1:0" || c.Concurrency != 1024 {
		t.Errorf("from the file: %+v", c)
	}
	if len(c.RetrySchedule) != 2 || c.RetrySchedule[1] != 2*time.Minute || len(c.EgressAllow) != 2 {
		t.Errorf("lists from the file: %v %v", c.RetrySchedule, c.EgressAllow)
	}
}

func TestRepeatedFlagAdds(t *testing.T) {
	t.Parallel()
	c, _, err := parse(t, good(), "--topics", "a", "--topics", "b,c")
	if err != nil || strings.Join(c.Topics, " ") != "a b c" {
		t.Errorf("topics %q, %v", c.Topics, err)
	}
}

func TestRateAndSwitch(t *testing.T) {
	t.Parallel()
	const rate, perRule = "WEBHOOK_DISPATCHER_ENDPOINT_RATE=", "WEBHOOK_DISPATCHER_METRICS_PER_RULE="
	file := "WEBHOOK_DISPATCHER_CONFIG=" + writeFile(t, "settings.yaml", "endpoint-rate: 2.5\nmetrics: {per-rule: true}\n")
	for _, c := range []struct {
		name    string
		environ []string
		args    []string
		rate    float64
		perRule bool
	}{
		{name: "file", environ: good(file), rate: 2.5, perRule: true},
		{name: "environment over file", environ: good(file, rate+"0", perRule+"off")},
		{
			name: "flag over environment", environ: good(rate+"7", perRule+"no"),
			args: []string{"--metrics-per-rule", "--endpoint-rate=0.001"}, rate: 0.001, perRule: true,
		},
		{name: "flag with a value", environ: good(perRule + "1"), args: []string{"--metrics-per-rule=false"}},
		{name: "in any case", environ: good(rate+" 1e3 ", perRule+" Yes "), rate: 1000, perRule: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, _, err := parse(t, c.environ, c.args...)
			if err != nil {
				t.Fatal(err)
			}
			if got.EndpointRate != c.rate || got.MetricsPerRule != c.perRule {
				t.Errorf("rate %v, per rule %v, want %v and %v", got.EndpointRate, got.MetricsPerRule, c.rate, c.perRule)
			}
		})
	}
}

func TestSecretsFromFiles(t *testing.T) {
	t.Parallel()
	dsn := writeFile(t, "dsn", "mysql://u:p%40ss@db/openedx?timeout=5s\n")
	key := writeFile(t, "key", "k\r\n")
	environ := []string{
		"EVENT_BUS_KAFKA_BOOTSTRAP_SERVERS=kafka:9092", "EVENT_BUS_KAFKA_SCHEMA_REGISTRY_URL=http://registry:8081/apis/ccompat/v7",
		"WEBHOOK_DISPATCHER_TOPICS=*", "EVENT_BUS_KAFKA_API_KEY_FILE=" + key, "EVENT_BUS_KAFKA_API_SECRET=s",
	}
	c, _, err := parse(t, environ, "--mysql-dsn-file", dsn)
	if err != nil {
		t.Fatal(err)
	}
	if c.APIKey.Reveal() != "k" || !c.TLSToKafka() || !c.AllTopics() {
		t.Errorf("key %q, TLS %v, all %v", c.APIKey.Reveal(), c.TLSToKafka(), c.AllTopics())
	}
	if dsn := c.MySQLDSN.Reveal(); dsn != "mysql://u:p%40ss@db/openedx?timeout=5s" {
		t.Errorf("DSN %q", dsn)
	}
}

func TestGroupAlone(t *testing.T) {
	t.Parallel()
	var g struct {
		File
		Log
		Database
	}
	// What rules list needs. Settings of other commands may be wrong.
	loader := NewLoader([]string{
		"WEBHOOK_DISPATCHER_MYSQL_DSN=u@tcp(h:1)/d", "WEBHOOK_DISPATCHER_TIMEOUT=x", "WEBHOOK_DISPATCHER_SIGNING_SECRET=s",
	})
	parser, err := kong.New(&g, loader.Options()...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(nil); err != nil {
		t.Fatal(err)
	}
	if err := loader.Finish(&g.Log, &g.Database); err != nil {
		t.Error(err)
	}
}

// Every setting must have a help text, an own flag and a default that can be read.
func TestEverySetting(t *testing.T) {
	t.Parallel()
	help, flags := helpTexts(), map[string]bool{"help": true}
	for _, s := range allSettings() {
		if s.field != "" && help[s.env] == "" {
			t.Errorf("%s has no help text", s.env)
		}
		delete(help, s.env)
		if !strings.HasPrefix(s.env, ownPrefix) && !strings.HasPrefix(s.env, busPrefix+"KAFKA_") && s.env != busPrefix+"TOPIC_PREFIX" {
			t.Errorf("%q has none of the prefixes", s.env)
		}
		if name := flagName(s.env); flags[name] {
			t.Errorf("two settings share the flag --%s", name)
		} else {
			flags[name] = true
		}
		if _, ok := reflect.TypeFor[Config]().FieldByName(s.field + "File"); s.secret && s.field != "" && !ok {
			t.Errorf("the secret %s cannot be read from a file", s.env)
		}
	}
	for env := range help {
		t.Errorf("a help text for %s, which is no setting", env)
	}
}

// The names of the design are a contract: none may be refused as unknown.
func TestDesignNamesAreKnown(t *testing.T) {
	t.Parallel()
	names := strings.Fields(`TOPICS GROUP_ID GROUP_INSTANCE_ID START_OFFSET MYSQL_DSN LISTEN API_LISTEN FILTER_LISTEN RECEIVER_LISTEN
		RETRY_SCHEDULE TIMEOUT
		HAND_OFF_AFTER ENDPOINT_CONCURRENCY ENDPOINT_RATE CONCURRENCY QUEUE_OVERFLOW METRICS_PER_RULE ATTEMPT_LOG EGRESS_ALLOW
		RULES_SOURCE RULES_REFRESH LOG_FORMAT LOG_LEVEL FILTER_TOKENS
		FILTER_DEADLINE SECRETS_KEY SIGNING_SCHEME SIGNING_SECRET LMS_BASE_URL LMS_OAUTH2_KEY LMS_OAUTH2_SECRET SHOPIFY_SHOP_DOMAIN
		SHOPIFY_API_KEY WOOCOMMERCE_SOURCE WOOCOMMERCE_SECRET WOOCOMMERCE_REQUIRE_PAYMENT LERNITO_SECRET SKU_PREFIX AUTO_ENROLL
		SEND_ENROLLMENT_EMAIL ENROLL_RETRIES ENROLL_RETRY_DELAY API_TOKENS CONFIG`)
	known := settingsBy(func(s setting) string { return s.env })
	for _, name := range names {
		if _, ok := known[ownPrefix+name]; !ok {
			t.Errorf("%s%s is not known", ownPrefix, name)
		}
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	_, loader, err := parse(t, good("WEBHOOK_DISPATCHER_TIMOUT=hush", "WEBHOOK_DISPATCHER_QQQQQQQQQ=1",
		"WEBHOOK_DISPATCHER_LMS_BASE_URL=http://lms", "WEBHOOK_DISPATCHER_FILTER_TOKENS=hunter2,0123456789abcdef",
		"WEBHOOK_DISPATCHER_SERVICE_HOST=10.0.0.1", "WEBHOOK_DISPATCHER_SERVICE_PORT_HTTP=80",
		"WEBHOOK_DISPATCHER_PORT=tcp://10.0.0.1:80",
		"WEBHOOK_DISPATCHER_PORT_8080_TCP_ADDR=10.0.0.1", "EVENT_BUS_KAFKA_CONSUMERS_ENABLED=1", "WEBHOOK_DISPATCHER_EMPTY="))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"WEBHOOK_DISPATCHER_QQQQQQQQQ is set, but there is no such setting: it has no effect",
		"WEBHOOK_DISPATCHER_TIMOUT is set, but there is no such setting: it has no effect; did you mean WEBHOOK_DISPATCHER_TIMEOUT?",
		"WEBHOOK_DISPATCHER_LMS_BASE_URL is set, but this version lacks its feature: it has no effect",
		"WEBHOOK_DISPATCHER_FILTER_TOKENS is set, but WEBHOOK_DISPATCHER_FILTER_LISTEN is not: nothing listens for webfilters",
		"WEBHOOK_DISPATCHER_FILTER_TOKENS has a short token, number 1 of 2, which could be guessed: " +
			"use at least 16 characters; to make one: openssl rand -hex 24",
	}
	if got := loader.Warnings(); !reflect.DeepEqual(got, want) {
		t.Errorf("warnings:\n%s", strings.Join(got, "\n"))
	}
}
