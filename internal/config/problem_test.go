package config

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sealingKey is a good key.
const sealingKey = "k1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

// TestProblems holds every message about a wrong setting in one golden file.
func TestProblems(t *testing.T) {
	t.Parallel()
	empty := writeFile(t, "empty", "\n")
	notPEM := writeFile(t, "ca.pem", "no certificate")
	file := func(text string) string { return "WEBHOOK_DISPATCHER_CONFIG=" + writeFile(t, "settings.yaml", text) }
	signing := func(scheme, secret string) []string {
		return good("WEBHOOK_DISPATCHER_SIGNING_SCHEME="+scheme, "WEBHOOK_DISPATCHER_SIGNING_SECRET="+secret)
	}
	filters := func(listen, tokens string) []string {
		return good("WEBHOOK_DISPATCHER_FILTER_LISTEN="+listen, "WEBHOOK_DISPATCHER_FILTER_TOKENS="+tokens)
	}
	cases := []struct {
		name    string
		environ []string
		args    []string
	}{
		{"nothing set", nil, nil},
		{"brokers", good("EVENT_BUS_KAFKA_BOOTSTRAP_SERVERS=kafka,kafka:x,:9092,kafka:0,kafka://k:9092"), nil},
		{"empty broker", good("EVENT_BUS_KAFKA_BOOTSTRAP_SERVERS=kafka:9092,,k:1"), nil},
		{"registry scheme", good("EVENT_BUS_KAFKA_SCHEMA_REGISTRY_URL=registry:8081"), nil},
		{"registry no host", good("EVENT_BUS_KAFKA_SCHEMA_REGISTRY_URL=http://"), nil},
		{"registry user", good("EVENT_BUS_KAFKA_SCHEMA_REGISTRY_URL=https://u:hunter2@registry/x"), nil},
		{"registry user alone", good("EVENT_BUS_KAFKA_SCHEMA_REGISTRY_URL=u:hunter2@registry:8081"), nil},
		{"broker user", good("EVENT_BUS_KAFKA_BOOTSTRAP_SERVERS=u:hunter2@kafka:9092"), nil},
		{"registry no URL", good("EVENT_BUS_KAFKA_SCHEMA_REGISTRY_URL=http://u:hunter2@[::1"), nil},
		{"registry query", good("EVENT_BUS_KAFKA_SCHEMA_REGISTRY_URL=https://registry/x?key=hunter2"), nil},
		{"half credentials", good("EVENT_BUS_KAFKA_API_KEY=hunter2", "EVENT_BUS_KAFKA_SCHEMA_REGISTRY_API_SECRET=hunter2"), nil},
		{"scram without", good("WEBHOOK_DISPATCHER_KAFKA_SASL_MECHANISM=SCRAM-SHA-512", "WEBHOOK_DISPATCHER_KAFKA_TLS=maybe"), nil},
		{"tls off", good("WEBHOOK_DISPATCHER_KAFKA_TLS=off", "WEBHOOK_DISPATCHER_KAFKA_CA_FILE="+notPEM), nil},
		{"topics blank", good("WEBHOOK_DISPATCHER_TOPICS=a,,b"), nil},
		{"topics star", good("WEBHOOK_DISPATCHER_TOPICS=*,b"), nil},
		{"topics names", good("WEBHOOK_DISPATCHER_TOPICS=a b,c,c,org/x", "EVENT_BUS_TOPIC_PREFIX=dév"), nil},
		{"instance id", good("WEBHOOK_DISPATCHER_GROUP_INSTANCE_ID=pod 0"), nil},
		{"start offset", good("WEBHOOK_DISPATCHER_START_OFFSET=oldest"), nil},
		{"dsn", good("WEBHOOK_DISPATCHER_MYSQL_DSN=dispatcher:hunter2@mysql:3306"), nil},
		{"dsn no database", good("WEBHOOK_DISPATCHER_MYSQL_DSN=dispatcher:hunter2@tcp(mysql:3306)/"), nil},
		{"dsn scheme", good("WEBHOOK_DISPATCHER_MYSQL_DSN=postgres://u:hunter2@mysql/x"), nil},
		{"dsn unescaped", good("WEBHOOK_DISPATCHER_MYSQL_DSN=mysql://u:hun%ter2@mysql/x"), nil},
		{"dsn slash in password", good("WEBHOOK_DISPATCHER_MYSQL_DSN=mysql://u:hun/ter2@mysql/x"), nil},
		{"dsn at and slash in password", good("WEBHOOK_DISPATCHER_MYSQL_DSN=mysql://u:hun@t/er2@mysql/x"), nil},
		{"dsn parameter", good("WEBHOOK_DISPATCHER_MYSQL_DSN=u:hunter2@tcp(mysql)/x?parseTime=hunter2"), nil},
		{"dsn no user", good("WEBHOOK_DISPATCHER_MYSQL_DSN=tcp(mysql:3306)/openedx"), nil},
		{"dsn url parameter", good("WEBHOOK_DISPATCHER_MYSQL_DSN=mysql://u:hunter2@mysql/x?parseTime=hunter2"), nil},
		{"dsn url no database", good("WEBHOOK_DISPATCHER_MYSQL_DSN=mysql://u:hunter2@mysql/"), nil},
		{"dsn twice", good("WEBHOOK_DISPATCHER_MYSQL_DSN_FILE=" + empty), nil},
		{"dsn file missing", good("WEBHOOK_DISPATCHER_MYSQL_DSN=", "WEBHOOK_DISPATCHER_MYSQL_DSN_FILE=/does/not/exist"), nil},
		{"dsn file empty", good("WEBHOOK_DISPATCHER_MYSQL_DSN=", "WEBHOOK_DISPATCHER_MYSQL_DSN_FILE="+empty), nil},
		{"schedule zero", good("WEBHOOK_DISPATCHER_RETRY_SCHEDULE=5s,0s"), nil},
		{"schedule negative", good("WEBHOOK_DISPATCHER_RETRY_SCHEDULE=5s,-1m"), nil},
		{"schedule unit", good("WEBHOOK_DISPATCHER_RETRY_SCHEDULE=5,300"), nil},
		{"durations", good("WEBHOOK_DISPATCHER_TIMEOUT=10", "WEBHOOK_DISPATCHER_HAND_OFF_AFTER=-5ms",
			"WEBHOOK_DISPATCHER_RULES_REFRESH=1ms"), nil},
		{"retention", good("WEBHOOK_DISPATCHER_RETENTION_DELIVERED=1h", "WEBHOOK_DISPATCHER_RETENTION_DEAD=5"), nil},
		{"hand-off over timeout", good("WEBHOOK_DISPATCHER_TIMEOUT=1s"), []string{"--hand-off-after=2s"}},
		{"numbers", good("WEBHOOK_DISPATCHER_CONCURRENCY=many", "WEBHOOK_DISPATCHER_ENDPOINT_CONCURRENCY=0"), nil},
		{"rate", good("WEBHOOK_DISPATCHER_ENDPOINT_RATE=-1"), nil},
		{"rate no number", good("WEBHOOK_DISPATCHER_ENDPOINT_RATE=NaN", "WEBHOOK_DISPATCHER_METRICS_PER_RULE=some"), nil},
		{"rate too slow", good("WEBHOOK_DISPATCHER_ENDPOINT_RATE=0.0001"), []string{"--metrics-per-rule=maybe"}},
		{"sizes", good("WEBHOOK_DISPATCHER_FETCH_BUDGET=32", "WEBHOOK_DISPATCHER_QUEUE_LIMIT_BYTES=1B"), nil},
		{"queue", good("WEBHOOK_DISPATCHER_QUEUE_LIMIT_ROWS=10", "WEBHOOK_DISPATCHER_QUEUE_OVERFLOW=drop"), nil},
		{"egress", good("WEBHOOK_DISPATCHER_EGRESS_ALLOW=10.1.2.3/8"), nil},
		{"egress address", good("WEBHOOK_DISPATCHER_EGRESS_ALLOW=10.1.2.3"), nil},
		{"proxy", good("WEBHOOK_DISPATCHER_PROXY=socks5://u:hunter2@proxy:1080"), nil},
		{"rules source", good("WEBHOOK_DISPATCHER_RULES_SOURCE=adoptd", "WEBHOOK_DISPATCHER_ATTEMPT_LOG=none"), nil},
		{"secrets key without an id", good("WEBHOOK_DISPATCHER_SECRETS_KEY=hunter2hunter2hunter2hunter2hunter2hunter2="), nil},
		{"secrets key too short", good("WEBHOOK_DISPATCHER_SECRETS_KEY=k1:hunter2hunter2=="), nil},
		{"secrets key twice", good("WEBHOOK_DISPATCHER_SECRETS_KEY=" + sealingKey + "," + sealingKey), nil},
		{"secrets key twice of three", good("WEBHOOK_DISPATCHER_SECRETS_KEY=" + sealingKey + "," + sealingKey + ",k2" + sealingKey[2:]), nil},
		{"secrets key too short behind another", good("WEBHOOK_DISPATCHER_SECRETS_KEY=" + sealingKey + ",k2:hunter2hunter2=="), nil},
		{"secrets key twice, one too short", good("WEBHOOK_DISPATCHER_SECRETS_KEY=" + sealingKey + ",k1:hunter2hunter2=="), nil},
		{"secrets key with an odd id", good("WEBHOOK_DISPATCHER_SECRETS_KEY=" + sealingKey + ",k 2:hunter2"), nil},
		{"secrets key file empty", good("WEBHOOK_DISPATCHER_SECRETS_KEY_FILE=" + empty), nil},
		{"signing scheme", good("WEBHOOK_DISPATCHER_SIGNING_SCHEME=hmac", "WEBHOOK_DISPATCHER_SIGNING_SECRET=hunter2"), nil},
		{"signing secret alone", good("WEBHOOK_DISPATCHER_SIGNING_SECRET=hunter2"), nil},
		{"signing scheme alone", good("WEBHOOK_DISPATCHER_SIGNING_SCHEME=sig-hmac-sha256"), nil},
		{"signing no prefix", signing("standard", "hunter2hunter2hunter2hunter2hunter2"), nil},
		{"signing short", signing("standard", "whsec_hunter2A"), nil},
		{"signing no base64", signing("standard", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw,whsec_hunter2"), nil},
		{"signing public key", signing("standard", "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="), nil},
		{"signing list", signing("sig-hmac-sha256", "hunter2,,hunter2"), nil},
		{"signing space", signing("sig-hmac-sha256", "hunter2, hunter2"), nil},
		{"signing file", good("WEBHOOK_DISPATCHER_SIGNING_SCHEME=standard", "WEBHOOK_DISPATCHER_SIGNING_SECRET_FILE="+empty), nil},
		{"listen", good("WEBHOOK_DISPATCHER_LISTEN=8080", "WEBHOOK_DISPATCHER_LOG_LEVEL=loud", "WEBHOOK_DISPATCHER_LOG_FORMAT=xml"), nil},
		{"listen port", good("WEBHOOK_DISPATCHER_LISTEN=:99999"), nil},
		{"filter tokens missing", good("WEBHOOK_DISPATCHER_FILTER_LISTEN=:8081"), nil},
		{"filter listen", filters("8081", "hunter2hunter2hunter2"), nil},
		{"filter listen port", filters("127.0.0.1:http", "hunter2hunter2hunter2"), nil},
		{"filter tokens empty item", filters(":8081", "hunter2hunter2hunter2,"), nil},
		{"filter tokens space", filters(":8081", "hunter2hunter2hunter2, hunter2hunter2hunter2"), nil},
		{"filter tokens characters", filters("", "hunter2hunter2hunter2,hunter2 hunter2,hünter2"), nil},
		{"filter tokens file", good("WEBHOOK_DISPATCHER_FILTER_LISTEN=:8081", "WEBHOOK_DISPATCHER_FILTER_TOKENS_FILE="+empty), nil},
		{"filter deadline", good("WEBHOOK_DISPATCHER_FILTER_DEADLINE=2m"), nil},
		{"file missing", good("WEBHOOK_DISPATCHER_CONFIG=/does/not/exist.yaml"), nil},
		{"file unknown keys", good(file("timout: 5s\nzzzzzzzz: hunter2\nrules: {sauce: hunter2}\nconfig: x\n")), nil},
		{"file shapes", good(file("timeout: {a: 1}\ntopics: [[a]]\ntimeout: 5s\nlog_level: info\nlog-level: warn\n")), nil},
		{"file no mapping", good(file("- a\n")), nil},
		{"file no YAML alone", []string{file("a: [\n")}, nil},
		{"file missing alone", []string{"WEBHOOK_DISPATCHER_CONFIG=/does/not/exist.yaml"}, nil},
		{"file no YAML", good(file("a: [\n")), nil},
		{"file star", good(file("topics: *\n")), nil},
		{"file wrong value", good(file("timeout: 10\nmysql-dsn: hunter2\n")), nil},
		{"file wrong values", []string{file(
			"kafka-bootstrap-servers: [kafka]\nrules:\n  refresh: 1ms\n\nkafka:\n  schema_registry.url: http://registry\n" +
				"topics: []\nHAND_OFF_AFTER: 1m\n" +
				"mysql-dsn: u:hunter2@tcp(mysql)/\nsecrets_key_file: /does/not/exist\nlisten: \"8080\"\n")}, nil},
		{
			"file over another place", good(file("timeout: 10\nhand-off-after: x\n"), "WEBHOOK_DISPATCHER_TIMEOUT=11"),
			[]string{"--hand-off-after=y"},
		},
	}
	var got strings.Builder
	for _, c := range cases {
		_, _, err := parse(t, c.environ, c.args...)
		if _, ok := errors.AsType[*Error](err); !ok {
			t.Errorf("%s: no problem found: %v", c.name, err)
			continue
		}
		text := err.Error()
		for _, entry := range c.environ { // paths of this run
			if _, value, _ := strings.Cut(entry, "="); strings.HasPrefix(value, os.TempDir()) {
				text = strings.ReplaceAll(text, filepath.Dir(value), "DIR")
			}
		}
		if strings.Contains(text, "hunter2") {
			t.Errorf("%s: shows a secret: %s", c.name, text)
		}
		fmt.Fprintf(&got, "# %s\n%s\n\n", c.name, text)
	}
	golden := filepath.Join("testdata", "problems.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("differs from %s (-update writes it):\n%s", golden, got.String())
	}
}

func TestSecretsDoNotShow(t *testing.T) {
	t.Parallel()
	c, _, err := parse(t, good("EVENT_BUS_KAFKA_API_KEY=hunter2", "EVENT_BUS_KAFKA_API_SECRET=hunter2",
		"WEBHOOK_DISPATCHER_PROXY=http://u:hunter2@p:1"))
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).LogAttrs(t.Context(), slog.LevelInfo, "settings", c.Redacted()...)
	slog.New(slog.NewTextHandler(&log, nil)).Info("raw", "dsn", c.MySQLDSN, "bus", c.Bus)
	fmt.Fprintf(&log, "%v %+v %#v %s %q", *c, *c, *c, c.APIKey, c.APISecret)
	if strings.Contains(log.String(), "hunter2") {
		t.Errorf("a secret shows: %s", log.String())
	}
	for _, want := range []string{`"WEBHOOK_DISPATCHER_MYSQL_DSN":"[set]"`, `"WEBHOOK_DISPATCHER_HAND_OFF_AFTER":"500ms"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%s is missing: %s", want, log.String())
		}
	}
}

func FuzzParseFile(f *testing.F) {
	for _, seed := range []string{
		"timeout: 5s", "a: &x [1]\nb: *x", "rules: {source: x}", "? {a: b} : c", "a: !!binary x\n<<: *a", "&a a: *a", "&a {b: *a}",
	} {
		f.Add([]byte(seed))
	}
	known := settingsBy(func(s setting) string { return flagName(s.env) })
	f.Fuzz(func(t *testing.T, data []byte) {
		values, _ := parseFile("f", data, known)
		for name := range values {
			if _, ok := known[name]; !ok {
				t.Errorf("a value for %q, which is no setting", name)
			}
		}
	})
}

func FuzzParseValues(f *testing.F) {
	for _, seed := range []string{"5s", "14d", "1d12h", "-1d", "9223372036854775807ns", "32MiB", "8388607TiB", "1e9h", "d", "65535d"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := ParseSize(text); err == nil && n < 0 {
			t.Errorf("%q gives the size %d", text, n)
		}
		if d, err := ParseDuration(text); err == nil && strings.HasPrefix(strings.TrimSpace(text), "1") && d < 0 {
			t.Errorf("%q gives the duration %s", text, d)
		}
	})
}
