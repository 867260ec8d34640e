package cli

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What the daemons would hold because the scheme of the settings needs the same header is refused by the commands, wherever they have the
// setting from. What is good goes on to the database, which is not there.
func TestRulesAtOddsWithTheScheme(t *testing.T) {
	t.Parallel()
	const refused = "the rule is refused: auth or headers set the header Authorization, where " +
		"WEBHOOK_DISPATCHER_SIGNING_SCHEME=sig-hmac-sha256 puts its signature: give the rule a scheme of its own, such as --scheme none"
	file := filepath.Join(t.TempDir(), "settings.yaml")
	if err := os.WriteFile(file, []byte("signing-scheme: sig-hmac-sha256\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const scheme = "WEBHOOK_DISPATCHER_SIGNING_SCHEME="
	for _, c := range []struct {
		name    string
		setting string
		args    []string
		refused bool
	}{
		{"auth", scheme + "sig-hmac-sha256", []string{"--auth", "bearer", "--auth-token", "t0ken"}, true},
		{"the header", scheme + "sig-hmac-sha256", []string{"--header", "authorization: t0ken"}, true},
		{"of a webfilter", scheme + "sig-hmac-sha256", []string{"--kind", "webfilter", "--auth", "bearer", "--auth-token", "t0ken"}, true},
		{"by the file", "WEBHOOK_DISPATCHER_CONFIG=" + file, []string{"--auth", "bearer", "--auth-token", "t0ken"}, true},
		{"by the flag", "", []string{"--auth", "bearer", "--auth-token", "t0ken", "--signing-scheme", "sig-hmac-sha256"}, true},
		{"not signed", scheme + "sig-hmac-sha256", []string{"--auth", "bearer", "--auth-token", "t0ken", "--scheme", "none"}, false},
		{"another header", scheme + "sig-hmac-sha256", []string{"--header", "X-Token: t0ken"}, false},
		{"another scheme", scheme + "standard", []string{"--auth", "bearer", "--auth-token", "t0ken"}, false},
		{"no scheme", "", []string{"--auth", "bearer", "--auth-token", "t0ken"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var stderr bytes.Buffer
			code := Run(t.Context(), append([]string{
				"rules", "add", "--event", "COURSE_ENROLLMENT_CREATED", "--url", "https://h/",
			}, c.args...), &Process{
				Environ: []string{
					"WEBHOOK_DISPATCHER_MYSQL_DSN=u:p@tcp(127.0.0.1:1)/openedx", c.setting,
					"WEBHOOK_DISPATCHER_SECRETS_KEY=k1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
				},
				Stdout: io.Discard, Stderr: &stderr,
			})
			said := stderr.String()
			if c.refused && (code != ExitUsage || !strings.Contains(said, refused)) || !c.refused && code != ExitFailed {
				t.Errorf("exit code %d: %s", code, said)
			}
			if strings.Contains(said, "t0ken") {
				t.Errorf("a secret is shown: %s", said)
			}
		})
	}
}
