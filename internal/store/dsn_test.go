package store

import (
	"strings"
	"testing"
	"time"
)

func TestParseDSN(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		dsn                          string
		user, password, addr, dbName string
	}{
		{"app:secret@tcp(db:3307)/edxapp", "app", "secret", "db:3307", "edxapp"},
		{"app:s/e?c@r:et@tcp(db)/edxapp?timeout=3s", "app", "s/e?c@r:et", "db:3306", "edxapp"},
		{"app@unix(/run/mysqld.sock)/edxapp", "app", "", "/run/mysqld.sock", "edxapp"},
		{"mysql://app:secret@db:3307/edxapp", "app", "secret", "db:3307", "edxapp"},
		{"MySQL://app@db/edxapp", "app", "", "db:3306", "edxapp"},
		{"mysql://a%40b:p%25%2F%3F%23%3A%40@db/edx%20app?timeout=3s&charset=utf8mb4", "a@b", "p%/?#:@", "db:3306", "edx app"},
		{"mysql://app:secret@[::1]:3306/edxapp", "app", "secret", "[::1]:3306", "edxapp"},
	} {
		cfg, err := ParseDSN(c.dsn)
		if err != nil {
			t.Errorf("%s: %v", c.dsn, err)
			continue
		}
		if cfg.User != c.user || cfg.Passwd != c.password || cfg.Addr != c.addr || cfg.DBName != c.dbName {
			t.Errorf("%s: got %q %q %q %q", c.dsn, cfg.User, cfg.Passwd, cfg.Addr, cfg.DBName)
		}
		if strings.Contains(c.dsn, "timeout") && cfg.Timeout != 3*time.Second {
			t.Errorf("%s: timeout %s", c.dsn, cfg.Timeout)
		}
	}
}

func TestParseDSNSecureURL(t *testing.T) {
	t.Parallel()
	cfg, err := ParseDSN("mysql://app:secret@db.example.org/edxapp?tls=true")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.TLS == nil || cfg.TLS.ServerName != "db.example.org" {
		t.Errorf("tls=true: got %+v, want the host's name to be checked", cfg.TLS)
	}
}

var wrongDSNs = [...]struct{ dsn, says string }{
	{"", "want user:password@tcp(host:port)/database"},
	{"canary", "want user:password@tcp"},
	{"app:canary@db:3306/edxapp", "want user:password@tcp"},
	{"app:canary@tcp(db:3306)/", "no database"},
	{":canary@tcp(db:3306)/edxapp", "no user"},
	{"app:canary@tcp(db:3306)/edxapp?loc=Europe/canary", "want user:password@tcp"},
	{"app:x@tcp(db:3306)/edxapp?tls=canary", "want user:password@tcp"},
	{"mysql://app:canary@db", "no database"},
	{"mysql://db/edxapp", "no user"},
	{"mysql://app:can#ary@db/edxapp", "percent-encoded"},
	{"mysql://app:can/canary@db/edxapp", "percent-encoded"},
	{"mysql://app:can%zzcanary@db/edxapp", "not a URL"},
	{"mysql://app:canary@db:99999/edxapp", "port"},
	{"mysql://app:canary@/edxapp", "no host"},
	{"mysql://app:canary@db/edxapp/more", "more than one /"},
	{"mysql://app:canary@db/edxapp?parseTime=canary", "parameter"},
}

func TestParseDSNWrong(t *testing.T) {
	t.Parallel()
	for _, c := range wrongDSNs {
		_, err := ParseDSN(c.dsn)
		if err == nil {
			t.Errorf("%s: no error", c.dsn)
			continue
		}
		if text := err.Error(); !strings.Contains(text, c.says) || strings.Contains(text, "canary") {
			t.Errorf("%s: %q, want it to say %q and nothing of the DSN", c.dsn, text, c.says)
		}
	}
}

func FuzzParseDSN(f *testing.F) {
	for _, c := range wrongDSNs {
		f.Add(c.dsn)
	}
	f.Add("app:secret@tcp(db:3307)/edxapp?timeout=3s")
	f.Add("mysql://a%40b:p%25%2F%3F@[::1]:3307/edxapp?tls=skip-verify")
	fixed := strings.Join([]string{
		"database DSN: no database is named, no user: the Go MySQL driver cannot read it not a URL unexpected #: no host is", dsnForms,
		"the port is not a number from 1 to 65535 more than one / after a parameter ? is none of the Go MySQL driver's, or its value is wrong",
	}, " ")
	f.Fuzz(func(t *testing.T, dsn string) {
		cfg, err := ParseDSN(dsn)
		if err == nil {
			if cfg.DBName == "" || cfg.User == "" {
				t.Errorf("accepted without user or database")
			}
			return
		}
		for word := range strings.FieldsSeq(err.Error()) {
			if !strings.Contains(fixed, strings.Trim(word, ":,")) {
				t.Errorf("the error has %q, which is none of its own words", word)
			}
		}
	})
}
