// Package dsn parses the database's DSN for config and store.
package dsn

import (
	"errors"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// Forms says what to write, for messages about an error of Parse.
const Forms = "write user:password@tcp(host:3306)/database, or mysql://user:password@host:3306/database"

const scheme = "mysql://"

// otherScheme matches the start of a URL, or user:password. It only explains driver errors.
var otherScheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*://`)

// Parse reads a DSN of the Go MySQL driver, or a URL
// mysql://user:password@host:port/database?parameters with the driver's parameters. The port
// defaults to 3306; user, password and database are percent-decoded. User and database are
// required.
//
// Errors are predicates, such as "names no database", and contain no part of the DSN: without its
// delimiters any part may be the password.
func Parse(dsn string) (*mysql.Config, error) {
	if len(dsn) >= len(scheme) && strings.EqualFold(dsn[:len(scheme)], scheme) {
		return parseURL(dsn)
	}
	cfg, err := mysql.ParseDSN(dsn)
	switch {
	case err != nil && otherScheme.MatchString(dsn):
		return nil, errors.New("is not a mysql:// URL")
	case err != nil:
		return nil, errors.New("is not a valid DSN, or has an invalid parameter")
	case cfg.DBName == "":
		return nil, errors.New("names no database")
	case cfg.User == "":
		return nil, errors.New("names no user")
	}
	return cfg, nil
}

func parseURL(dsn string) (*mysql.Config, error) {
	u, err := url.Parse(dsn)
	if err != nil || strings.Contains(dsn, "#") {
		return nil, errors.New("is not a URL; characters such as @ / : # % in a password must be percent-encoded")
	}
	host, port, database := u.Hostname(), u.Port(), strings.TrimPrefix(u.Path, "/")
	if port == "" {
		port = "3306"
	}
	n, portErr := strconv.ParseUint(port, 10, 16)
	// With the address, from which the driver takes the name to expect in a certificate.
	cfg, paramErr := mysql.ParseDSN("tcp(" + net.JoinHostPort(host, port) + ")/?" + u.RawQuery)
	switch {
	case host == "" || strings.ContainsAny(host, " @()/"):
		return nil, errors.New("names no host")
	case portErr != nil || n == 0:
		return nil, errors.New("has no port from 1 to 65535")
	case strings.Trim(database, "/") == "":
		return nil, errors.New("names no database")
	case strings.Contains(database, "/"):
		return nil, errors.New("has more than one / after the host; write a / in a password as %2F")
	case u.User.Username() == "":
		return nil, errors.New("names no user")
	case paramErr != nil:
		return nil, errors.New("has an unknown parameter after ?, or one with an invalid value")
	}
	cfg.User = u.User.Username()
	cfg.Passwd, _ = u.User.Password()
	cfg.DBName = database
	return cfg, nil
}
