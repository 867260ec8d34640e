package app

import (
	"crypto/tls"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus/kafka"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode/confluent"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/replay"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// NewReplayer builds what replays from the topics and the registry that the settings describe, which are the daemon's. o brings what is no
// setting: rows, records, run and whether to apply. The second result closes connections.
func NewReplayer(cfg *config.Bus, o replay.Options) (_ *replay.Replayer, closeAll func(), err error) {
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		return nil, nil, err
	}
	kafkaTLS, sasl, err := kafkaSecurity(cfg)
	if err != nil {
		return nil, nil, err
	}
	registry, err := newRegistryClient(cfg, nil, nil) // what goes wrong is an error here, not a line in a log
	if err != nil {
		return nil, nil, err
	}
	decoder, err := confluent.New(confluent.Impatient(registry), catalogue)
	if err != nil {
		registry.Close()
		return nil, nil, err
	}
	log, err := kafka.NewLogReader(kafka.LogReaderOptions{
		Brokers: cfg.BootstrapServers, TopicPrefix: cfg.TopicPrefix, Topics: cfg.Topics, TLS: kafkaTLS, SASL: sasl,
	})
	if err != nil {
		registry.Close()
		return nil, nil, err
	}
	closeAll = func() { log.Close(); registry.Close() }
	o.Log, o.Decoder, o.Everything = log, decoder, cfg.AllTopics()
	r, err := replay.New(o)
	if err != nil {
		closeAll()
		return nil, nil, err
	}
	return r, closeAll, nil
}

// newRegistryClient builds the client of the schema registry. It connects to nothing yet.
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

// kafkaSecurity returns how to reach the brokers; nil for plain text and nil for no credentials.
func kafkaSecurity(cfg *config.Bus) (*tls.Config, *kafka.SASL, error) {
	conf, err := cfg.KafkaTLSConfig()
	if err != nil || cfg.APIKey == "" {
		return conf, nil, err
	}
	return conf, &kafka.SASL{Mechanism: cfg.SASLMechanism, Username: cfg.APIKey.Reveal(), Password: cfg.APISecret.Reveal()}, nil
}
