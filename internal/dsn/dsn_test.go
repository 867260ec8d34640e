package dsn

import (
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
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
		cfg, err := Parse(c.dsn)
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

func TestParseSecureURL(t *testing.T) {
	t.Parallel()
	cfg, err := Parse("mysql://app:secret@db.example.org/edxapp?tls=true")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.TLS == nil || cfg.TLS.ServerName != "db.example.org" {
		t.Errorf("tls=true: got %+v, want the host's name to be checked", cfg.TLS)
	}
}

var wrongDSNs = [...]struct{ dsn, says string }{
	{"", "names no database"},
	{"canary", "is not a valid DSN"},
	{"app:canary@db:3306/edxapp", "is not a valid DSN"},
	{"app:canary@tcp(db:3306)/", "names no database"},
	{":canary@tcp(db:3306)/edxapp", "names no user"},
	{"app:canary@tcp(db:3306)/edxapp?loc=Europe/canary", "is not a valid DSN"},
	{"app:x@tcp(db:3306)/edxapp?tls=canary", "is not a valid DSN"},
	{"mysql://app:canary@db", "names no database"},
	{"mysql://db/edxapp", "names no user"},
	{"mysql://app:can#ary@db/edxapp", "percent-encoded"},
	{"mysql://app:can/canary@db/edxapp", "percent-encoded"},
	{"mysql://app:can%zzcanary@db/edxapp", "is not a URL"},
	{"mysql://app:canary@db:99999/edxapp", "port"},
	{"mysql://app:canary@/edxapp", "names no host"},
	{"mysql://app:canary@db/edxapp/more", "more than one /"},
	{"mysql://app:canary@db/edxapp?parseTime=canary", "parameter"},
}

func TestParseWrong(t *testing.T) {
	t.Parallel()
	for _, c := range wrongDSNs {
		_, err := Parse(c.dsn)
		if err == nil {
			t.Errorf("%s: no error", c.dsn)
			continue
		}
		if text := err.Error(); !strings.Contains(text, c.says) || strings.Contains(text, "canary") {
			t.Errorf("%s: %q, want it to say %q and nothing of the DSN", c.dsn, text, c.says)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range wrongDSNs {
		f.Add(c.dsn)
	}
	f.Add("app:secret@tcp(db:3307)/edxapp?timeout=3s")
	f.Add("mysql://a%40b:p%25%2F%3F@[::1]:3307/edxapp?tls=skip-verify")
	fixed := "is not a valid DSN, or has an invalid parameter names no database user host more than one / after the host; " +
		"is not a mysql:// URL is not a URL; characters such as @ / : # % in a password must be percent-encoded; write a / as %2F " +
		"has no port from 1 to 65535 has an unknown parameter after ?, or one with an invalid value"
	f.Fuzz(func(t *testing.T, dsn string) {
		cfg, err := Parse(dsn)
		if err == nil {
			if cfg.DBName == "" || cfg.User == "" {
				t.Errorf("accepted without user or database")
			}
			return
		}
		if len(dsn) > 20 && strings.Contains(err.Error(), dsn) {
			t.Errorf("the error shows the DSN: %s", err)
		}
		for word := range strings.FieldsSeq(err.Error()) {
			if !strings.Contains(fixed, strings.Trim(word, ":,")) {
				t.Errorf("the error has %q, which is none of its own words", word)
			}
		}
	})
}
