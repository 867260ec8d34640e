package config

import (
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// kong itself says that a list may have more items, so its placeholder must not.
func TestHelpSaysOnceThatThereMayBeMore(t *testing.T) {
	t.Parallel()
	var g grammar
	var help strings.Builder
	parser, err := kong.New(&g, append(NewLoader(nil).Options(), kong.Writers(&help, &help), kong.Exit(func(int) {}))...)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = parser.Parse([]string{"--help"}) // it goes on where it would have ended the process, and misses settings
	if twice := regexp.MustCompile(`--\S*(,…,\.\.\.|,\.\.\.,\.\.\.)`).FindAllString(help.String(), -1); twice != nil {
		t.Errorf("said twice: %q", twice)
	}
	for _, want := range []string{
		"--topics=TOPIC,...", "--kafka-bootstrap-servers=HOST:PORT,...", "--egress-allow=CIDR,...", "--filter-tokens=TOKEN,…",
		"--retry-schedule=5s,",
	} {
		if !strings.Contains(help.String(), want) {
			t.Errorf("%s is missing: %s", want, help.String())
		}
	}
}
