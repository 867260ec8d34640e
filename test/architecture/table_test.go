package architecture_test

// row says what the files of one package may import beside the standard library. Its test files may import anything.
// Packages below it share its row, and may import each other and it.
type row struct {
	pkg string
	// ours are packages of this module.
	ours []string
	// others are modules of other people, or parts of them.
	others []string
	// guarded are the packages of the standard library, out of guardedStd, that it may import.
	guarded []string
}

// guardedStd are packages of the standard library that show what somebody knows of the world.
var guardedStd = []string{"database/sql", "log", "net/http", "os/exec"}

// everything in ours stands for all packages of this module except those in notLinked.
const everything = "*"

const (
	avro       = "github.com/twmb/avro"
	breaker    = "github.com/sony/gobreaker"
	driver     = "github.com/go-sql-driver/mysql"
	franz      = "github.com/twmb/franz-go"
	gojq       = "github.com/itchyny/gojq"
	goose      = "github.com/pressly/goose"
	gorm       = "gorm.io"
	kafka      = "github.com/segmentio/kafka-go"
	kong       = "github.com/alecthomas/kong"
	mysqlInGo  = "github.com/dolthub"
	oauth2     = "golang.org/x/oauth2"
	prometheus = "github.com/prometheus/client_golang"
	registry   = "github.com/twmb/franz-go/pkg/sr"
	resty      = "github.com/go-resty/resty"
	yaml       = "go.yaml.in/yaml"
	xnet       = "golang.org/x/net"
	xsync      = "golang.org/x/sync"
	xtext      = "golang.org/x/text"
	xtime      = "golang.org/x/time"
)

// table is the import table of the design. Imports point one way: a package stands below all that it imports. A new
// package gets a row; a new import gets a place in one only when the package is meant to know of it.
var table = []row{
	// What everybody may know: the envelope, and data without behaviour.
	{pkg: "pkg/event"},
	{pkg: "pkg/signature"},
	{pkg: "schema"},

	// Pure: no Kafka, no HTTP, no SQL, no clock of their own.
	{pkg: "internal/offset"},
	{pkg: "internal/suggest"},
	{pkg: "internal/delivery", ours: []string{"pkg/event"}},
	{pkg: "internal/breaker", ours: []string{"internal/delivery"}, others: []string{breaker}},
	{pkg: "internal/payload", ours: []string{"internal/delivery", "pkg/event"}},
	{pkg: "internal/expression", ours: []string{"internal/payload"}, others: []string{gojq}},
	{
		pkg: "internal/rule",
		ours: []string{
			"internal/delivery", "internal/expression", "internal/payload", "internal/secret", "internal/suggest", "pkg/event", "pkg/signature", "schema",
		},
		others: []string{prometheus, xnet},
	},
	{pkg: "internal/recipe", ours: []string{"internal/rule"}},
	{pkg: "internal/secret"},

	// One side of the world each.
	{pkg: "internal/config", ours: []string{"internal/delivery", "internal/secret", "internal/suggest", "pkg/signature"}, others: []string{kong, yaml, driver}},
	{pkg: "internal/bus", ours: []string{"internal/offset"}, others: []string{kafka, prometheus, xsync}},
	{
		pkg: "internal/decode", ours: []string{"internal/bus", "internal/payload", "pkg/event", "schema"},
		others: []string{avro, registry, prometheus, xsync}, guarded: []string{"net/http"},
	},
	{pkg: "internal/egress", others: []string{xnet}, guarded: []string{"net/http"}},
	{
		pkg: "internal/sender", ours: []string{"internal/delivery", "internal/egress", "internal/payload", "internal/rule", "pkg/event", "pkg/signature"},
		others: []string{resty, prometheus, xnet, oauth2}, guarded: []string{"net/http"},
	},
	{
		pkg: "internal/store", ours: []string{"internal/delivery", "internal/rule", "pkg/event", "schema"},
		others: []string{gorm, driver, goose, prometheus}, guarded: []string{"database/sql"},
	},

	// What decides, and reaches the world through interfaces of its own.
	{
		pkg: "internal/dispatch",
		ours: []string{
			"internal/breaker", "internal/delivery", "internal/expression", "internal/payload", "internal/rule", "pkg/event",
		},
		others: []string{prometheus, xsync, xtime},
	},
	{
		pkg: "internal/replay",
		ours: []string{
			"internal/bus", "internal/decode", "internal/delivery", "internal/dispatch", "internal/payload", "internal/rule", "internal/store",
			"schema",
		},
	},
	{pkg: "internal/queue", ours: []string{"internal/delivery"}, others: []string{prometheus, xsync}},
	{
		pkg:    "internal/webfilter",
		ours:   []string{"internal/breaker", "internal/delivery", "internal/payload", "internal/rule", "internal/sender"},
		others: []string{prometheus, xtext},
	},
	{
		pkg: "internal/webfilter/stage", ours: []string{"internal/delivery", "internal/payload", "internal/webfilter"},
		others: []string{prometheus},
	},

	// What puts it all together.
	{
		pkg: "internal/server", ours: []string{"internal/delivery", "internal/payload", "internal/rule", "internal/webfilter"},
		others: []string{prometheus, xtime}, guarded: []string{"net/http"},
	},
	{
		pkg: "internal/app",
		ours: []string{
			"internal/bus", "internal/config", "internal/decode", "internal/delivery", "internal/dispatch", "internal/egress", "internal/webfilter/stage",
			"internal/payload", "internal/queue", "internal/webfilter", "internal/replay", "internal/rule", "internal/secret",
			"internal/sender", "internal/server", "internal/store", "pkg/event", "schema",
		},
		others: []string{prometheus}, guarded: []string{"net/http"},
	},
	{
		pkg: "internal/cli",
		ours: []string{
			"internal/app", "internal/config", "internal/decode", "internal/delivery", "internal/dispatch", "internal/payload", "internal/recipe",
			"internal/replay",
			"internal/rule", "internal/sender", "internal/suggest", "internal/store", "internal/webfilter", "pkg/event", "schema",
		},
		others: []string{kong}, guarded: []string{"net/http"},
	},
	{pkg: "cmd/webhook-dispatcher", ours: []string{"internal/cli"}, guarded: []string{"log"}}, // to turn it off

	// Never in the daemon's binary.
	{
		pkg: "internal/fakes", ours: []string{"schema", "pkg/event"},
		others:  []string{franz, mysqlInGo, driver, avro, "github.com/sirupsen/logrus"},
		guarded: []string{"database/sql", "net/http"},
	},
	{
		pkg: "cmd/sandbox", ours: []string{everything, "internal/fakes"}, others: []string{franz, driver, kong, prometheus},
		guarded: []string{"database/sql", "net/http"},
	},
	{
		pkg: "cmd/bench", ours: []string{everything, "internal/fakes"}, others: []string{kong},
		guarded: []string{"net/http", "os/exec"},
	},
	{
		pkg: "test/e2e", ours: []string{everything, "internal/fakes"}, others: []string{franz, kafka, driver, prometheus, xsync},
		guarded: []string{"database/sql", "net/http", "os/exec"},
	},
}

// notLinked are packages and modules that the daemon's binary must not hold: they are for tests and the sandbox.
var notLinked = []string{
	"github.com/openedx-webhooks/webhook-dispatcher/internal/fakes",
	"github.com/twmb/franz-go/pkg/kfake",
	mysqlInGo,
	"testing",
}

// lineLimits are the lines that a file may have, by the start of its path; the first that fits holds.
var lineLimits = []struct {
	under string
	lines int
}{
	{"cmd/", 200},
	{"", 400},
}
