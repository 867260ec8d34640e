package config

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus/kafka"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/dsn"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/secret"
)

// Check completes and checks a Config that was not made by a Loader: it fills in derived defaults
// and returns an *Error with everything that is wrong, or nil. It does not read files of secrets.
// (kong would call a method named Validate.)
func (c *Config) Check() error {
	p := problems{seen: map[string]bool{}}
	c.check(&p)
	return p.err()
}

func (c *Config) check(p *problems) {
	for _, group := range [...]Group{
		&c.Log, &c.Bus, &c.Database, &c.Rules, &c.Secrets, &c.Sending, &c.Dispatch, &c.Retention, &c.HTTP, &c.Filters,
	} {
		group.check(p)
	}
	if c.HandOffAfter >= c.Timeout && !p.seen[ownPrefix+"HAND_OFF_AFTER"] && !p.seen[ownPrefix+"TIMEOUT"] {
		p.add(ownPrefix+"HAND_OFF_AFTER", c.HandOffAfter.String(), "is not shorter than %sTIMEOUT, %s: write a shorter time",
			ownPrefix, c.Timeout)
	}
}

func (g *Log) check(p *problems) {
	if _, err := g.Level(); err != nil && !p.seen[ownPrefix+"LOG_LEVEL"] {
		p.add(ownPrefix+"LOG_LEVEL", g.LogLevel, "write one of debug, info, warn, error")
	}
}

func (b *Bus) check(p *problems) {
	b.checkBrokers(p)
	b.checkSASL(p)
	b.checkRegistry(p)
	b.checkTopics(p)
	checkCA(p, kafkaCAFile, b.KafkaCAFile)
	checkCA(p, registryCAFile, b.SchemaRegistryCAFile)
	if b.GroupID == "" {
		b.GroupID = b.FullTopic("webhook-dispatcher")
	}
	if b.GroupInstanceID != "" && !kafka.ValidTopic(b.GroupInstanceID) { // brokers have one rule for both
		p.add(ownPrefix+"GROUP_INSTANCE_ID", b.GroupInstanceID, "is not an id: write letters, digits, dots, underscores and hyphens, 249 at most")
	}
}

func (b *Bus) checkBrokers(p *problems) {
	const env = busPrefix + "KAFKA_BOOTSTRAP_SERVERS"
	if len(b.BootstrapServers) == 0 {
		p.missing(env, "give the Kafka brokers as host:port, comma separated")
		return
	}
	for _, broker := range b.BootstrapServers {
		if strings.Contains(broker, "@") {
			p.add(env, "", "has credentials in it (not shown): set %sKAFKA_API_KEY and %sKAFKA_API_SECRET instead", busPrefix, busPrefix)
		} else if strings.Contains(broker, "://") {
			p.add(env, broker, "has a scheme: write host:port alone; TLS is switched with %sKAFKA_TLS", ownPrefix)
		} else if fault := addressFault(broker, true); fault != "" {
			p.add(env, broker, "%s: write each broker as host:port, such as kafka:9092", fault)
		}
	}
}

func (b *Bus) checkSASL(p *problems) {
	const key, secret = busPrefix + "KAFKA_API_KEY", busPrefix + "KAFKA_API_SECRET"
	checkPair(p, key, b.APIKey, secret, b.APISecret)
	if b.SASLMechanism != "plain" && b.APIKey == "" && b.APISecret == "" {
		p.add(ownPrefix+"KAFKA_SASL_MECHANISM", b.SASLMechanism, "needs credentials: set %s and %s", key, secret)
	}
	if b.KafkaTLS == "off" && b.KafkaCAFile != "" {
		p.add(ownPrefix+"KAFKA_TLS", "off", "contradicts %sKAFKA_CA_FILE: remove one of the two", ownPrefix)
	}
}

// checkPair reports half of a pair of credentials.
func checkPair(p *problems, keyName string, key Secret, secretName string, secret Secret) {
	switch {
	case key != "" && secret == "":
		p.missing(secretName, "it is needed with "+keyName)
	case key == "" && secret != "":
		p.missing(keyName, "it is needed with "+secretName)
	}
}

func (b *Bus) checkRegistry(p *problems) {
	const registry = busPrefix + "KAFKA_SCHEMA_REGISTRY_"
	const env = registry + "URL"
	const fix = "write it as http://host:port or https://host/path"
	checkPair(p, registry+"API_KEY", b.SchemaRegistryAPIKey, registry+"API_SECRET", b.SchemaRegistryAPISecret)
	if b.SchemaRegistryURL == "" {
		p.missing(env, "give the schema registry's URL, such as http://registry:8081")
		return
	}
	u, err := url.Parse(b.SchemaRegistryURL)
	switch {
	case err != nil:
		p.add(env, "", "is not a URL: %s", fix)
	case strings.Contains(b.SchemaRegistryURL, "@"):
		p.add(env, "", "has credentials in it (not shown): set %sAPI_KEY and %sAPI_SECRET instead", registry, registry)
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		p.add(env, b.SchemaRegistryURL, "is not a URL of http or https with a host: %s", fix)
	case u.RawQuery != "" || u.Fragment != "":
		p.add(env, u.Scheme+"://"+u.Host+u.Path, "has a query or a fragment: %s", fix)
	}
}

func (b *Bus) checkTopics(p *problems) {
	const env, prefix = ownPrefix + "TOPICS", busPrefix + "TOPIC_PREFIX"
	wrongPrefix := b.TopicPrefix != "" && !kafka.ValidTopic(b.TopicPrefix+"-x")
	if wrongPrefix {
		p.add(prefix, b.TopicPrefix, "cannot begin a topic name: write letters, digits, dots, underscores and hyphens")
	}
	if len(b.Topics) == 0 {
		p.missing(env, "give the topics without their prefix, comma separated, or * for every topic under the prefix")
		return
	}
	if slices.Contains(b.Topics, "*") {
		if len(b.Topics) > 1 {
			p.add(env, strings.Join(b.Topics, ","), "mixes * with names: write * alone, or names alone")
		}
		return
	}
	for i, topic := range b.Topics {
		if !kafka.ValidTopic(topic) || !wrongPrefix && !kafka.ValidTopic(b.FullTopic(topic)) {
			p.add(env, topic, "is not a topic name: write letters, digits, dots, underscores and hyphens, 249 at most with the prefix")
		} else if slices.Contains(b.Topics[:i], topic) {
			p.add(env, topic, "is listed twice: remove one")
		}
	}
}

func (d *Database) check(p *problems) {
	const env = ownPrefix + "MYSQL_DSN"
	if d.MySQLDSN == "" {
		p.missing(env, "give the database that the LMS uses: "+dsn.Forms)
		return
	}
	if _, err := dsn.Parse(d.MySQLDSN.Reveal()); err != nil {
		p.add(env, "", "%s (its value is not shown): %s", err, dsn.Forms)
	}
	checkCA(p, mysqlCAFile, d.MySQLCAFile)
}

func (r *Rules) check(*problems) {}

func (s *Secrets) check(p *problems) {
	if s.SecretsKey == "" {
		return
	}
	text := s.SecretsKey.Reveal()
	if _, err := secret.ParseKeys(text); err != nil {
		p.add(ownPrefix+"SECRETS_KEY", "", "%s", keysFault(text, err))
	}
}

// keysFault says what is wrong with a list of keys and what to do. It suggests an id that no key in
// the list has, not even an unusable one: sealed secrets name their key by its id.
func keysFault(text string, err error) string {
	var ids []string
	twice := ""
	for part := range strings.SplitSeq(text, listSeparator) {
		id, _, _ := strings.Cut(strings.TrimSpace(part), ":")
		if _, err := secret.ParseKeys(part); err == nil && slices.Contains(ids, id) {
			twice = id
		}
		ids = append(ids, id)
	}
	unused := "k1"
	for n := 2; len(ids) > 1 && slices.Contains(ids, unused); n++ {
		unused = "k" + strconv.Itoa(n)
	}
	if twice != "" {
		return fmt.Sprintf("two keys have the id %q: give the new key another id, such as %s", twice, unused)
	}
	return fmt.Sprintf("%s; to make a new one: echo %s:$(openssl rand -base64 32)", err, unused)
}

func (s *Sending) check(p *problems) {
	s.checkSigning(p)
	if s.Proxy == "" {
		return
	}
	u, err := url.Parse(s.Proxy.Reveal())
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		p.add(ownPrefix+"PROXY", "",
			"is not a proxy URL: write http://host:port or https://host:port, with user:password@ before the host if needed")
	}
}

func (d *Dispatch) check(p *problems) {
	if len(d.RetrySchedule) == 0 {
		p.missing(ownPrefix+"RETRY_SCHEDULE", "give at least one delay, such as 5s,5m,2h")
	}
	if d.EndpointRate > 0 && d.EndpointRate < delivery.MinRate {
		p.add(ownPrefix+"ENDPOINT_RATE", strconv.FormatFloat(d.EndpointRate, 'g', -1, 64),
			"is less than one request in 1000 seconds: write at least %g, or 0 for no limit", delivery.MinRate)
	}
	if d.QueueLimitRuleRows > d.QueueLimitRows && !p.seen[ownPrefix+"QUEUE_LIMIT_ROWS"] && !p.seen[ownPrefix+"QUEUE_LIMIT_RULE_ROWS"] {
		p.add(ownPrefix+"QUEUE_LIMIT_RULE_ROWS", strconv.Itoa(d.QueueLimitRuleRows),
			"is more than %sQUEUE_LIMIT_ROWS, %d: write at most that", ownPrefix, d.QueueLimitRows)
	}
}

func (r *Retention) check(*problems) {}

func (h *HTTP) check(p *problems) {
	if fault := addressFault(h.Listen, false); fault != "" && !p.seen[ownPrefix+"LISTEN"] {
		p.add(ownPrefix+"LISTEN", h.Listen, "%s: write [host]:port, such as :8080 or 127.0.0.1:8080", fault)
	}
}

// addressFault says why an address is not host:port, or returns "".
func addressFault(address string, needHost bool) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		if strings.Count(address, ":") == 0 {
			return "has no port"
		}
		return "is not host:port"
	}
	n, err := strconv.ParseUint(port, 10, 16)
	switch {
	case err != nil || needHost && n == 0:
		return "has no port from 1 to 65535"
	case needHost && host == "":
		return "has no host"
	case strings.ContainsAny(host, " /@"):
		return "is not host:port"
	}
	return ""
}
