// Package dsn reads the address of the database, for the settings that check it and the store that
// connects to it.
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

// otherScheme matches the start of a URL. A user and a password can look the same, so it is only
// asked about what the driver cannot read.
var otherScheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*://`)

// Parse reads the driver's form of a DSN, or a URL mysql://user:password@host:port/database?parameters
// with the driver's parameters, where the port may be left out (3306) and user, password and
// database are percent-decoded. Database and user must be named.
//
// An error reads as a predicate, such as "names no database", and shows nothing of the DSN: once a
// delimiter is missing, any part may be the password.
func Parse(dsn string) (*mysql.Config, error) {
	if len(dsn) >= len(scheme) && strings.EqualFold(dsn[:len(scheme)], scheme) {
		return parseURL(dsn)
	}
	cfg, err := mysql.ParseDSN(dsn)
	switch {
	case err != nil && otherScheme.MatchString(dsn):
		return nil, errors.New("is a URL of another kind than mysql")
	case err != nil:
		return nil, errors.New("cannot be read as a DSN, or has a parameter that cannot")
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
	// The address is given to the driver as well: it takes the name to expect in a certificate from it.
	cfg, paramErr := mysql.ParseDSN("tcp(" + net.JoinHostPort(host, port) + ")/?" + u.RawQuery)
	switch {
	case host == "" || strings.ContainsAny(host, " @()/"):
		return nil, errors.New("names no host")
	case portErr != nil || n == 0:
		return nil, errors.New("has no port from 1 to 65535")
	case strings.Trim(database, "/") == "":
		return nil, errors.New("names no database")
	case strings.Contains(database, "/"):
		return nil, errors.New("has more than one / after the host; a / in a password must be written %2F")
	case u.User.Username() == "":
		return nil, errors.New("names no user")
	case paramErr != nil:
		return nil, errors.New("has a parameter after ? that the Go MySQL driver does not know, or its value is wrong")
	}
	cfg.User = u.User.Username()
	cfg.Passwd, _ = u.User.Password()
	cfg.DBName = database
	return cfg, nil
}
