package app

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus/kafka"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode/confluent"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// Topics are what replays read events from. It connects when first used.
type Topics struct {
	Log       *kafka.LogReader
	registry  *confluent.Client
	catalogue *schema.Catalogue
}

// NewTopics returns the topics and the registry of the settings.
func NewTopics(cfg *config.Bus, catalogue *schema.Catalogue) (*Topics, error) {
	source, err := kafkaSource(cfg)
	if err != nil {
		return nil, err
	}
	registry, err := newRegistryClient(cfg, nil, nil) // problems are returned, not logged
	if err != nil {
		return nil, err
	}
	log, err := kafka.NewLogReader(source)
	if err != nil {
		registry.Close()
		return nil, err
	}
	return &Topics{log, registry, catalogue}, nil
}

// Decoder returns a decoder for one replay, with a short wait for the registry.
func (t *Topics) Decoder() (decode.Decoder, error) {
	return confluent.New(confluent.Impatient(t.registry), t.catalogue)
}

// Close closes the connections.
func (t *Topics) Close() {
	t.Log.Close()
	t.registry.Close()
}

func newRegistryClient(cfg *config.Bus, logger *slog.Logger, registerer prometheus.Registerer) (*confluent.Client, error) {
	roots, err := cfg.RegistryTLS()
	if err != nil {
		return nil, err
	}
	return confluent.NewClient(confluent.ClientOptions{
		URL: cfg.SchemaRegistryURL, Username: cfg.SchemaRegistryAPIKey.Reveal(), Password: cfg.SchemaRegistryAPISecret.Reveal(),
		TLS: roots, Logger: logger, Registerer: registerer,
	})
}

// kafkaSource returns the topics, and how to reach their brokers.
func kafkaSource(cfg *config.Bus) (kafka.Source, error) {
	tls, err := cfg.KafkaTLSConfig()
	source := kafka.Source{Brokers: cfg.BootstrapServers, TopicPrefix: cfg.TopicPrefix, Topics: cfg.Topics, TLS: tls}
	if cfg.APIKey != "" {
		source.SASL = &kafka.SASL{Mechanism: cfg.SASLMechanism, Username: cfg.APIKey.Reveal(), Password: cfg.APISecret.Reveal()}
	}
	return source, err
}
