package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus/kafka"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode/confluent"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/egress"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/intake"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/sender"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/server"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// OpenStore opens the database that the settings name, without connecting.
func OpenStore(cfg *config.Database, logger *slog.Logger) (*store.Store, error) {
	options, err := StoreOptions(cfg, logger)
	if err != nil {
		return nil, err
	}
	return store.Open(options)
}

// StoreOptions turns the database's settings into the store's.
func StoreOptions(cfg *config.Database, logger *slog.Logger) (store.Options, error) {
	conf, err := cfg.TLS()
	if err != nil {
		return store.Options{}, err
	}
	return store.Options{DSN: cfg.MySQLDSN.Reveal(), TLS: conf, Logger: logger}, nil
}

// NewCompiler builds a compiler of rules with the keys of their secrets. scheme is the signing
// scheme of rules without one.
func NewCompiler(rules *config.Rules, secrets *config.Secrets, scheme string, catalogue *schema.Catalogue) (*rule.Compiler, error) {
	keys, err := rule.ParseKeys(secrets.SecretsKey.Reveal())
	if err != nil {
		return nil, err
	}
	return &rule.Compiler{Catalogue: catalogue, Adopted: rules.RulesSource == "adopted", Opener: keys, Scheme: scheme}, nil
}

// NewSender builds the sender of the settings, with its egress guard, for the daemon and for
// `rules test --send`. o has what is not a setting. The second result closes it.
func NewSender(cfg *config.Config, o sender.Options) (*sender.Sender, func(), error) {
	guard, err := egress.NewGuard(cfg.EgressAllow)
	if err != nil {
		return nil, nil, err
	}
	transport := egress.Options{Guard: guard, Concurrency: cfg.Concurrency}
	if proxy := cfg.Proxy.Reveal(); proxy != "" {
		if transport.Proxy, err = url.Parse(proxy); err != nil {
			return nil, nil, fmt.Errorf("WEBHOOK_DISPATCHER_PROXY is not a URL: write http://host:port")
		}
	}
	pool, err := egress.NewPool(transport)
	if err != nil {
		return nil, nil, err
	}
	if o.Signings, err = sender.Signings(cfg.SigningScheme, cfg.SigningSecrets()...); err != nil {
		return nil, nil, fmt.Errorf("WEBHOOK_DISPATCHER_SIGNING_SECRET: %w", err)
	}
	o.Transport, o.Certified, o.Guard, o.Timeout = pool.Transport(nil), pool.Transport, guard, cfg.Timeout
	s, err := sender.New(o)
	if err != nil {
		return nil, nil, err
	}
	return s, func() {
		s.Close()
		pool.CloseIdleConnections()
	}, nil
}

// buildBus builds registry client, decoder, intake and consumer.
func (a *App) buildBus(catalogue *schema.Catalogue, registerer prometheus.Registerer) error {
	cfg := a.cfg
	var err error
	if a.registry, err = newRegistryClient(&cfg.Bus, a.logger.With("component", "registry"), registerer); err != nil {
		return err
	}
	a.cleanups.add("registry", func(context.Context) error { a.registry.Close(); return nil })
	decoder, err := confluent.New(a.registry, catalogue)
	if err != nil {
		return err
	}
	if a.intake, err = intake.New(intake.Options{
		Decoder: decoder, Rules: a.rules, Filters: a.filters, Dispatcher: a.dispatcher, Store: a.store, Plan: a.plan,
		Everything: cfg.AllTopics(), Logger: a.logger.With("component", "intake"), Registerer: registerer,
	}); err != nil {
		return err
	}

	source, err := kafkaSource(&cfg.Bus)
	if err != nil {
		return err
	}
	a.consumer, err = kafka.New(kafka.Options{
		Source: source, GroupID: cfg.GroupID, GroupInstanceID: cfg.GroupInstanceID, StartOffset: cfg.StartOffset,
		MaxInFlight: cfg.MaxInFlight, Budget: int64(cfg.FetchBudget),
		Logger: a.logger.With("component", "bus"), Registerer: registerer, TopicState: a.store, Handler: a.intake,
	})
	return err
}

// kafkaReady returns the problem with Kafka, if any.
func (a *App) kafkaReady(context.Context) error {
	if !a.consuming.Load() {
		return errors.New("not asked yet: database and rules come first")
	}
	return a.consumer.Ready()
}

// Roles that /readyz can report separately. Consuming needs all checks; filters in the request need
// only the rules as last read.
const (
	roleConsuming = "consuming"
	roleFilters   = "filters"
)

func (a *App) buildHealth(gatherer prometheus.Gatherer) error {
	checks := []server.Check{
		{Name: "database", Role: roleConsuming, Ready: a.databaseReady},
		{Name: "rules", Role: roleConsuming, Ready: a.rules.Ready},
		{Name: "undecodable records", Role: roleConsuming, Ready: a.intake.Ready},
		{Name: "registry", Role: roleConsuming, Ready: a.registry.Reachable},
		{Name: "kafka", Role: roleConsuming, Ready: a.kafkaReady},
	}
	if a.endpoint != nil {
		checks = append(checks, server.Check{Name: "filter endpoint", Role: roleFilters, Ready: a.endpointReady})
	}
	handler, err := server.NewHealth(server.HealthOptions{Gatherer: gatherer, Checks: checks})
	if err != nil {
		return err
	}
	a.health, err = server.New(server.Options{
		Name: "health", Address: a.cfg.Listen, Setting: "WEBHOOK_DISPATCHER_LISTEN (--listen)", Handler: handler, Logger: a.logger,
	})
	return err
}

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
