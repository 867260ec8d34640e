package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

const (
	mysqlCAFile    = ownPrefix + "MYSQL_CA_FILE"
	kafkaCAFile    = ownPrefix + "KAFKA_CA_FILE"
	registryCAFile = ownPrefix + "SCHEMA_REGISTRY_CA_FILE"
)

// TLS returns the TLS configuration for the database, nil without a CA file: the DSN decides then.
func (d *Database) TLS() (*tls.Config, error) { return trusting(mysqlCAFile, d.MySQLCAFile) }

// RegistryTLS returns the TLS configuration for an https registry, nil without a CA file: the
// system's CAs are trusted then.
func (b *Bus) RegistryTLS() (*tls.Config, error) {
	return trusting(registryCAFile, b.SchemaRegistryCAFile)
}

// KafkaTLSConfig returns the TLS configuration for the brokers, nil for plain text.
func (b *Bus) KafkaTLSConfig() (*tls.Config, error) {
	if !b.TLSToKafka() {
		return nil, nil
	}
	conf, err := trusting(kafkaCAFile, b.KafkaCAFile)
	if conf == nil && err == nil {
		conf = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return conf, err
}

// trusting returns a configuration that trusts the CAs in a PEM file, nil without a path.
func trusting(setting, path string) (*tls.Config, error) {
	if path == "" {
		return nil, nil
	}
	roots, err := readCA(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %s %w", setting, path, err)
	}
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, nil
}

// readCA reads a PEM file. Its errors are predicates of the file.
func readCA(path string) (*x509.CertPool, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %s", fileFault(err))
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, errors.New("holds no certificate: give a file with PEM CERTIFICATE blocks")
	}
	return pool, nil
}

// checkCA reports an unusable CA file at start rather than at the first connection.
func checkCA(p *problems, setting, path string) {
	if path == "" {
		return
	}
	if _, err := readCA(path); err != nil {
		p.add(setting, path, "%s", err)
	}
}
