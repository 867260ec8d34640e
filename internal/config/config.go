// Package config defines the settings: their names, defaults and checks.
//
// Config holds all of them. Each is a flag, an environment variable and a key of the YAML file, in
// order of precedence. A command takes only the groups it needs, so listing rules requires no Kafka
// broker. All problems are reported at once, each with the setting's names, its value and the fix;
// messages never contain secret values.
//
// Settings are plain values, and constructors take them as options: nothing else reads the
// environment.
package config

import (
	"log/slog"
	"net/netip"
	"time"
)

// Config is all settings of the daemon. helpTexts describes them.
type Config struct {
	Log
	Bus
	Database
	Rules
	Secrets
	Sending
	Dispatch
	Retention
	HTTP
	Filters
}

// Log is how to log.
type Log struct {
	LogFormat string `setting:"WEBHOOK_DISPATCHER_LOG_FORMAT" choice:"json,text" default:"json"`
	LogLevel  string `setting:"WEBHOOK_DISPATCHER_LOG_LEVEL" default:"info"`
}

// Level returns the minimum log level.
func (g *Log) Level() (slog.Level, error) {
	var level slog.Level
	err := level.UnmarshalText([]byte(g.LogLevel))
	return level, err
}

// Bus is where events come from.
type Bus struct {
	BootstrapServers []string `setting:"EVENT_BUS_KAFKA_BOOTSTRAP_SERVERS" placeholder:"HOST:PORT"`
	APIKey           Secret   `setting:"EVENT_BUS_KAFKA_API_KEY" placeholder:"KEY"`
	APIKeyFile       string   `setting:"EVENT_BUS_KAFKA_API_KEY_FILE" placeholder:"FILE"`
	APISecret        Secret   `setting:"EVENT_BUS_KAFKA_API_SECRET" placeholder:"SECRET"`
	APISecretFile    string   `setting:"EVENT_BUS_KAFKA_API_SECRET_FILE" placeholder:"FILE"`
	SASLMechanism    string   `setting:"WEBHOOK_DISPATCHER_KAFKA_SASL_MECHANISM" choice:"plain,scram-sha-256,scram-sha-512" default:"plain"`
	KafkaTLS         string   `setting:"WEBHOOK_DISPATCHER_KAFKA_TLS" choice:"auto,on,off" default:"auto"`
	KafkaCAFile      string   `setting:"WEBHOOK_DISPATCHER_KAFKA_CA_FILE" placeholder:"FILE"`

	SchemaRegistryURL           string `setting:"EVENT_BUS_KAFKA_SCHEMA_REGISTRY_URL" placeholder:"URL"`
	SchemaRegistryAPIKey        Secret `setting:"EVENT_BUS_KAFKA_SCHEMA_REGISTRY_API_KEY" placeholder:"KEY"`
	SchemaRegistryAPIKeyFile    string `setting:"EVENT_BUS_KAFKA_SCHEMA_REGISTRY_API_KEY_FILE" placeholder:"FILE"`
	SchemaRegistryAPISecret     Secret `setting:"EVENT_BUS_KAFKA_SCHEMA_REGISTRY_API_SECRET" placeholder:"SECRET"`
	SchemaRegistryAPISecretFile string `setting:"EVENT_BUS_KAFKA_SCHEMA_REGISTRY_API_SECRET_FILE" placeholder:"FILE"`
	SchemaRegistryCAFile        string `setting:"WEBHOOK_DISPATCHER_SCHEMA_REGISTRY_CA_FILE" placeholder:"FILE"`

	TopicPrefix string   `setting:"EVENT_BUS_TOPIC_PREFIX" placeholder:"PREFIX"`
	Topics      []string `setting:"WEBHOOK_DISPATCHER_TOPICS" placeholder:"TOPIC"`
	GroupID     string   `setting:"WEBHOOK_DISPATCHER_GROUP_ID" placeholder:"GROUP"`
	// GroupInstanceID makes this process a static member of the group; see kafka.Options.
	GroupInstanceID string `setting:"WEBHOOK_DISPATCHER_GROUP_INSTANCE_ID" placeholder:"ID"`
	StartOffset     string `setting:"WEBHOOK_DISPATCHER_START_OFFSET" choice:"latest,earliest" default:"latest"`
	MaxInFlight     int    `setting:"WEBHOOK_DISPATCHER_MAX_IN_FLIGHT_PER_PARTITION" min:"1" max:"1000000" default:"1024"`
	FetchBudget     Size   `setting:"WEBHOOK_DISPATCHER_FETCH_BUDGET" min:"1MiB" max:"4GiB" default:"32MiB"`
}

// Database is where rules and rows are.
type Database struct {
	MySQLDSN     Secret `setting:"WEBHOOK_DISPATCHER_MYSQL_DSN" placeholder:"DSN"`
	MySQLDSNFile string `setting:"WEBHOOK_DISPATCHER_MYSQL_DSN_FILE" placeholder:"FILE"`
	MySQLCAFile  string `setting:"WEBHOOK_DISPATCHER_MYSQL_CA_FILE" placeholder:"FILE"`
}

// Rules is which rows are rules.
type Rules struct {
	RulesSource  string        `setting:"WEBHOOK_DISPATCHER_RULES_SOURCE" choice:"enabled,adopted" default:"enabled"`
	RulesRefresh time.Duration `setting:"WEBHOOK_DISPATCHER_RULES_REFRESH" min:"100ms" max:"1h" default:"5s"`
}

// Secrets holds the keys for secrets of rules: the first seals, all open.
type Secrets struct {
	SecretsKey     Secret `setting:"WEBHOOK_DISPATCHER_SECRETS_KEY" placeholder:"ID:KEY,…"`
	SecretsKeyFile string `setting:"WEBHOOK_DISPATCHER_SECRETS_KEY_FILE" placeholder:"FILE"`
}

// Sending is how requests are made.
type Sending struct {
	Timeout     time.Duration  `setting:"WEBHOOK_DISPATCHER_TIMEOUT" min:"100ms" max:"10m" default:"10s"`
	EgressAllow []netip.Prefix `setting:"WEBHOOK_DISPATCHER_EGRESS_ALLOW" placeholder:"CIDR"`
	Proxy       Secret         `setting:"WEBHOOK_DISPATCHER_PROXY" placeholder:"URL"`
	ProxyFile   string         `setting:"WEBHOOK_DISPATCHER_PROXY_FILE" placeholder:"FILE"`

	SigningScheme     string `setting:"WEBHOOK_DISPATCHER_SIGNING_SCHEME" choice:"none,standard,sig-hmac-sha256" default:"none"`
	SigningSecret     Secret `setting:"WEBHOOK_DISPATCHER_SIGNING_SECRET" placeholder:"SECRET,…"`
	SigningSecretFile string `setting:"WEBHOOK_DISPATCHER_SIGNING_SECRET_FILE" placeholder:"FILE"`
}

// Dispatch is how deliveries are tried, retried and queued.
type Dispatch struct {
	HandOffAfter        time.Duration   `setting:"WEBHOOK_DISPATCHER_HAND_OFF_AFTER" min:"10ms" max:"1m" default:"500ms"`
	EndpointConcurrency int             `setting:"WEBHOOK_DISPATCHER_ENDPOINT_CONCURRENCY" min:"1" max:"65536" default:"64"`
	EndpointRate        float64         `setting:"WEBHOOK_DISPATCHER_ENDPOINT_RATE" min:"0" max:"1000000" default:"0"`
	Concurrency         int             `setting:"WEBHOOK_DISPATCHER_CONCURRENCY" min:"1" max:"65536" default:"1024"`
	RetrySchedule       []time.Duration `setting:"WEBHOOK_DISPATCHER_RETRY_SCHEDULE" default:"5s,5m,30m,2h,5h,10h,14h,20h,24h"`
	QueueLimitRuleRows  int             `setting:"WEBHOOK_DISPATCHER_QUEUE_LIMIT_RULE_ROWS" min:"1" max:"1000000000" default:"100000"`
	QueueLimitRows      int             `setting:"WEBHOOK_DISPATCHER_QUEUE_LIMIT_ROWS" min:"1" max:"1000000000" default:"1000000"`
	QueueLimitBytes     Size            `setting:"WEBHOOK_DISPATCHER_QUEUE_LIMIT_BYTES" min:"1MiB" max:"1TiB" default:"4GiB"`
	QueueOverflow       string          `setting:"WEBHOOK_DISPATCHER_QUEUE_OVERFLOW" choice:"hold,dead" default:"hold"`
	AttemptLog          string          `setting:"WEBHOOK_DISPATCHER_ATTEMPT_LOG" choice:"failed,all" default:"failed"`
}

// Retention is how long ended rows are kept.
type Retention struct {
	RetentionDelivered   time.Duration `setting:"WEBHOOK_DISPATCHER_RETENTION_DELIVERED" min:"24h" max:"3650d" default:"24h"`
	RetentionDead        time.Duration `setting:"WEBHOOK_DISPATCHER_RETENTION_DEAD" min:"1h" max:"3650d" default:"30d"`
	RetentionAttempts    time.Duration `setting:"WEBHOOK_DISPATCHER_RETENTION_ATTEMPTS" min:"24h" max:"3650d" default:"14d"`
	RetentionUndecodable time.Duration `setting:"WEBHOOK_DISPATCHER_RETENTION_UNDECODABLE" min:"1h" max:"3650d" default:"30d"`
}

// HTTP is where the daemon serves health and metrics.
type HTTP struct {
	Listen         string `setting:"WEBHOOK_DISPATCHER_LISTEN" default:":8080"`
	MetricsPerRule bool   `setting:"WEBHOOK_DISPATCHER_METRICS_PER_RULE" default:"false"`
}

// Filters is where the LMS calls webfilters, with which tokens, and how long it waits.
type Filters struct {
	FilterListen     string        `setting:"WEBHOOK_DISPATCHER_FILTER_LISTEN" placeholder:"ADDRESS"`
	FilterTokens     Secret        `setting:"WEBHOOK_DISPATCHER_FILTER_TOKENS" placeholder:"TOKEN,…"`
	FilterTokensFile string        `setting:"WEBHOOK_DISPATCHER_FILTER_TOKENS_FILE" placeholder:"FILE"`
	FilterDeadline   time.Duration `setting:"WEBHOOK_DISPATCHER_FILTER_DEADLINE" min:"100ms" max:"1m" default:"2s"`
}

// File is the setting that names the YAML file; it is not allowed in that file.
type File struct {
	ConfigFile string `setting:"WEBHOOK_DISPATCHER_CONFIG" placeholder:"FILE"`
}

// Secret is a value that prints, logs and marshals as [set] or as nothing. Reveal returns it.
type Secret string

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String returns "[set]", or "" for an empty secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "[set]"
}

// GoString is String, so that %#v shows nothing either.
func (s Secret) GoString() string { return s.String() }

// MarshalText is String, so that an encoder shows nothing either.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Size is a number of bytes.
type Size int64

// TLSToKafka reports whether connections to the brokers use TLS.
func (b *Bus) TLSToKafka() bool {
	return b.KafkaTLS == "on" || b.KafkaTLS == "auto" && (b.APIKey != "" || b.KafkaCAFile != "")
}

// AllTopics reports whether all topics with the prefix are read.
func (b *Bus) AllTopics() bool { return len(b.Topics) == 1 && b.Topics[0] == "*" }

// FullTopic returns a topic's name on the broker.
func (b *Bus) FullTopic(base string) string {
	if b.TopicPrefix == "" {
		return base
	}
	return b.TopicPrefix + "-" + base
}
