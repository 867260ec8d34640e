package store

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"
)

const dsnForms = "want user:password@tcp(host:port)/database, or mysql://user:password@host:port/database with special" +
	" characters percent-encoded"

// ParseDSN reads the address of a database: the Go MySQL driver's form, or a URL
// mysql://user:password@host:port/database?parameters with the driver's parameters, where the port may be left out (3306) and user,
// password and database are percent-decoded. The database must be named. Errors hold nothing of dsn: any part of it may be
// the password, once a delimiter is missing.
func ParseDSN(dsn string) (*mysql.Config, error) {
	parse := parseDriverDSN
	if len(dsn) >= len(urlScheme) && strings.EqualFold(dsn[:len(urlScheme)], urlScheme) {
		parse = parseURL
	}
	cfg, err := parse(dsn)
	if err != nil {
		return nil, fmt.Errorf("database DSN: %w", err)
	}
	if cfg.DBName == "" {
		return nil, fmt.Errorf("database DSN: no database is named: %s", dsnForms)
	}
	if cfg.User == "" {
		return nil, fmt.Errorf("database DSN: no user is named: %s", dsnForms)
	}
	return cfg, nil
}

const urlScheme = "mysql://"

func parseDriverDSN(dsn string) (*mysql.Config, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		// The driver's error may quote parts of the DSN.
		return nil, fmt.Errorf("the Go MySQL driver cannot read it: %s", dsnForms)
	}
	return cfg, nil
}

func parseURL(dsn string) (*mysql.Config, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return nil, fmt.Errorf("not a URL: %s", dsnForms)
	}
	host, port, database := u.Hostname(), u.Port(), strings.TrimPrefix(u.Path, "/")
	if port == "" {
		port = "3306"
	}
	switch n, err := strconv.Atoi(port); {
	case u.Fragment != "" || strings.Contains(dsn, "#"):
		return nil, fmt.Errorf("unexpected #: %s", dsnForms)
	case host == "" || strings.ContainsAny(host, "()/"):
		return nil, fmt.Errorf("no host is named: %s", dsnForms)
	case err != nil || n < 1 || n > 65535:
		return nil, errors.New("the port is not a number from 1 to 65535")
	case strings.Contains(database, "/"):
		return nil, fmt.Errorf("more than one / after the host: %s", dsnForms)
	}
	// The driver reads the parameters; the address stands there too because the name to expect in a certificate comes from it.
	cfg, err := mysql.ParseDSN("tcp(" + net.JoinHostPort(host, port) + ")/?" + u.RawQuery)
	if err != nil {
		return nil, errors.New("a parameter after ? is none of the Go MySQL driver's, or its value is wrong")
	}
	cfg.User = u.User.Username()
	cfg.Passwd, _ = u.User.Password()
	cfg.DBName = database
	return cfg, nil
}

func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return host
}
