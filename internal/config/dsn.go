package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"strings"

	"github.com/go-sql-driver/mysql"
)

const dsnForms = "write user:password@tcp(host:3306)/database, or mysql://user:password@host:3306/database"

func (d *Database) check(p *problems) {
	const env = ownPrefix + "MYSQL_DSN"
	if d.MySQLDSN == "" {
		p.missing(env, "give the database that the LMS uses: "+dsnForms)
		return
	}
	if fault := dsnFault(d.MySQLDSN.Reveal()); fault != "" {
		p.add(env, "", "%s (its value is not shown): %s", fault, dsnForms)
	}
	checkPEM(p, ownPrefix+"MYSQL_CA_FILE", d.MySQLCAFile)
}

// otherScheme is how a URL begins. A user and a password can look the same, so what reads as a DSN is one.
var otherScheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*://`)

// dsnFault says what keeps a DSN from being used, "" if nothing does. It shows nothing of the value: once a delimiter is missing, any part
// may be the password. What it accepts the store must accept too.
func dsnFault(dsn string) string {
	const scheme = "mysql://"
	if len(dsn) >= len(scheme) && strings.EqualFold(dsn[:len(scheme)], scheme) {
		return urlFault(dsn)
	}
	cfg, err := mysql.ParseDSN(dsn)
	switch {
	case err != nil && otherScheme.MatchString(dsn):
		return "is a URL of another kind than mysql"
	case err != nil:
		return "cannot be read as a DSN, or has a parameter that cannot"
	case cfg.DBName == "":
		return "names no database"
	case cfg.User == "":
		return "names no user"
	}
	return ""
}

// urlFault is dsnFault for the form mysql://….
func urlFault(dsn string) string {
	u, err := url.Parse(dsn)
	if err != nil || strings.Contains(dsn, "#") {
		return "is no URL; characters such as @ / : # % in a password must be percent-encoded"
	}
	port := u.Port()
	if port == "" {
		port = "3306"
	}
	_, paramErr := mysql.ParseDSN("tcp(" + net.JoinHostPort(u.Hostname(), port) + ")/?" + u.RawQuery)
	switch {
	case u.Hostname() == "" || strings.ContainsAny(u.Hostname(), "()/"):
		return "names no host"
	case addressFault(net.JoinHostPort(u.Hostname(), port), true) != "":
		return "has no port from 1 to 65535"
	case strings.Trim(u.Path, "/") == "":
		return "names no database"
	case strings.Contains(strings.TrimPrefix(u.Path, "/"), "/"):
		return "has more than one / after the host; a / in a password must be written %2F"
	case u.User.Username() == "":
		return "names no user"
	case paramErr != nil:
		return "has a parameter after ? that is none of the Go MySQL driver's, or its value is wrong"
	}
	return ""
}

// checkPEM reports a file of CA certificates that cannot be used, so that a wrong mount shows at start and not at the first connection.
func checkPEM(p *problems, env, path string) {
	if path == "" {
		return
	}
	data, err := readFile(path)
	if err != nil {
		p.add(env, path, "cannot be read: %s", fileFault(err))
		return
	}
	if !x509.NewCertPool().AppendCertsFromPEM(data) {
		p.add(env, path, "holds no certificate: give a file with PEM blocks of CERTIFICATE")
	}
}

// CertPool returns the CA certificates of a PEM file, nil for an empty path: nil stands for the system's.
func CertPool(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	data, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("read CA certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("read CA certificates: %s holds none", path)
	}
	return pool, nil
}

// TLS returns how to connect to the database by TLS, nil where no CA file is set: then the DSN decides.
func (d *Database) TLS() (*tls.Config, error) {
	pool, err := CertPool(d.MySQLCAFile)
	if err != nil || pool == nil {
		return nil, err
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// Level returns the least level that is logged.
func (g *Log) Level() (slog.Level, error) {
	var level slog.Level
	err := level.UnmarshalText([]byte(g.LogLevel))
	return level, err
}
