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

// TLS returns how to connect to the database by TLS, nil where no CA file is set: then the DSN
// decides.
func (d *Database) TLS() (*tls.Config, error) { return trusting(mysqlCAFile, d.MySQLCAFile) }

// RegistryTLS returns how to connect to a schema registry at https, nil where no CA file is set:
// then the system's CAs are trusted.
func (b *Bus) RegistryTLS() (*tls.Config, error) {
	return trusting(registryCAFile, b.SchemaRegistryCAFile)
}

// KafkaTLSConfig returns how to connect to the brokers by TLS, nil for plain text.
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

// trusting returns a configuration that trusts the CA certificates of a PEM file, nil for no file.
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

// readCA reads a PEM file. An error reads as a predicate of the file.
func readCA(path string) (*x509.CertPool, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %s", fileFault(err))
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, errors.New("holds no certificate: give a file with PEM blocks of CERTIFICATE")
	}
	return pool, nil
}

// checkCA reports a CA file that cannot be used, so that a wrong mount shows at start and not at
// the first connection.
func checkCA(p *problems, setting, path string) {
	if path == "" {
		return
	}
	if _, err := readCA(path); err != nil {
		p.add(setting, path, "%s", err)
	}
}
