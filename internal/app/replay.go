package app

import (
	"crypto/tls"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode"
)

// Topics are what replays read events from. Nothing is connected to before the first question.
type Topics struct {
	History  *bus.History
	Registry *decode.Client
}

// NewTopics returns the topics and the registry that the daemon's settings describe.
func NewTopics(cfg *config.Bus) (*Topics, error) {
	kafkaTLS, sasl, err := kafkaSecurity(cfg)
	if err != nil {
		return nil, err
	}
	registry, err := newRegistryClient(cfg, nil, nil) // what goes wrong is an error here, not a line in a log
	if err != nil {
		return nil, err
	}
	history, err := bus.NewHistory(bus.HistoryOptions{
		Brokers: cfg.BootstrapServers, TopicPrefix: cfg.TopicPrefix, Topics: cfg.Topics, TLS: kafkaTLS, SASL: sasl,
	})
	if err != nil {
		registry.Close()
		return nil, err
	}
	return &Topics{history, registry}, nil
}

// Close closes the connections.
func (t *Topics) Close() {
	t.History.Close()
	t.Registry.Close()
}

// newRegistryClient builds the client of the schema registry. It connects to nothing yet.
func newRegistryClient(cfg *config.Bus, logger *slog.Logger, registerer prometheus.Registerer) (*decode.Client, error) {
	roots, err := ownCA(cfg.SchemaRegistryCAFile, "WEBHOOK_DISPATCHER_SCHEMA_REGISTRY_CA_FILE")
	if err != nil {
		return nil, err
	}
	return decode.NewClient(decode.ClientOptions{
		URL: cfg.SchemaRegistryURL, Username: cfg.SchemaRegistryAPIKey.Reveal(), Password: cfg.SchemaRegistryAPISecret.Reveal(),
		TLS: roots, Logger: logger, Registerer: registerer,
	})
}

// kafkaSecurity returns how to reach the brokers; nil for plain text and nil for no credentials.
func kafkaSecurity(cfg *config.Bus) (*tls.Config, *bus.SASL, error) {
	var conf *tls.Config
	if cfg.TLSToKafka() {
		var err error
		if conf, err = ownCA(cfg.KafkaCAFile, "WEBHOOK_DISPATCHER_KAFKA_CA_FILE"); err != nil {
			return nil, nil, err
		}
		if conf == nil {
			conf = &tls.Config{MinVersion: tls.VersionTLS12}
		}
	}
	if cfg.APIKey == "" {
		return conf, nil, nil
	}
	return conf, &bus.SASL{Mechanism: cfg.SASLMechanism, Username: cfg.APIKey.Reveal(), Password: cfg.APISecret.Reveal()}, nil
}
