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

// shared are packages that every other may import: they know nothing of the world.
var shared = []string{module + "/internal/backoff", module + "/internal/metric", xtime}

// table is the import table of the design. Imports point one way: a package stands below all that it imports. A new
// package gets a row; a new import gets a place in one only when the package is meant to know of it.
var table = []row{
	// What everybody may know: the envelope, and data without behaviour.
	{pkg: "pkg/event"},
	{pkg: "pkg/signature"},
	{pkg: "schema"},

	// Pure: no Kafka, no HTTP, no SQL, no clock of their own.
	{pkg: "internal/backoff"},
	{pkg: "internal/bus"}, // the contract, and the checkpoint that a bus may use
	{pkg: "internal/metric", others: []string{prometheus}},
	{pkg: "internal/suggest"},
	{pkg: "internal/delivery", ours: []string{"pkg/event"}},
	{pkg: "internal/breaker", ours: []string{"internal/delivery"}, others: []string{breaker}},
	{pkg: "internal/payload", ours: []string{"internal/delivery", "pkg/event"}},
	{pkg: "internal/expression", ours: []string{"internal/payload", "internal/suggest"}, others: []string{gojq}},
	{
		pkg: "internal/rule",
		ours: []string{
			"internal/delivery", "internal/expression", "internal/payload", "internal/secret", "internal/suggest", "pkg/event", "pkg/signature", "schema",
		},
		others: []string{prometheus, xnet},
	},
	{pkg: "internal/inflight", ours: []string{"internal/delivery"}},
	{pkg: "internal/plan", ours: []string{"internal/delivery", "internal/expression", "internal/payload", "internal/rule"}},
	{pkg: "internal/preset", ours: []string{"internal/rule"}},
	{pkg: "internal/secret"},
	{pkg: "internal/dsn", others: []string{driver}},

	// One side of the world each.
	{pkg: "internal/bus/kafka", ours: []string{"internal/bus"}, others: []string{kafka, prometheus}},
	{
		pkg: "internal/config",
		ours: []string{
			"internal/bus/kafka", // for what a topic may be called
			"internal/delivery", "internal/dsn", "internal/egress", "internal/secret", "internal/suggest", "pkg/signature",
		},
		others: []string{kong, yaml},
	},
	{
		pkg: "internal/decode", ours: []string{"internal/bus", "internal/payload", "pkg/event", "schema"}, others: []string{avro},
	},
	{
		pkg:    "internal/decode/confluent",
		ours:   []string{"internal/bus", "internal/decode", "internal/payload", "pkg/event", "schema"},
		others: []string{registry, prometheus}, guarded: []string{"net/http"},
	},
	{pkg: "internal/egress", others: []string{xnet}, guarded: []string{"net/http"}},
	{
		pkg: "internal/sender", ours: []string{"internal/delivery", "internal/egress", "internal/payload", "internal/rule", "pkg/event", "pkg/signature"},
		others: []string{resty, prometheus, xnet, oauth2}, guarded: []string{"net/http"},
	},
	{
		pkg: "internal/store", ours: []string{"internal/delivery", "internal/dsn", "internal/rule", "pkg/event", "schema"},
		others: []string{gorm, driver, goose, prometheus}, guarded: []string{"database/sql"},
	},

	// What decides, and reaches the world through interfaces of its own.
	{
		pkg: "internal/dispatch",
		ours: []string{
			"internal/breaker", "internal/delivery", "internal/expression", "internal/inflight", "internal/payload", "internal/plan",
			"internal/rule",
		},
		others: []string{prometheus, xsync},
	},
	{
		pkg: "internal/replay",
		ours: []string{
			"internal/bus", "internal/decode", "internal/delivery", "internal/payload", "internal/plan", "internal/rule", "internal/store",
		},
	},
	{pkg: "internal/queue", ours: []string{"internal/delivery"}, others: []string{prometheus, xsync}},
	{
		pkg:    "internal/webfilter",
		ours:   []string{"internal/breaker", "internal/delivery", "internal/payload", "internal/rule", "internal/sender"},
		others: []string{prometheus, xtext},
	},
	{
		pkg: "internal/webfilter/stage", ours: []string{"internal/delivery", "internal/inflight", "internal/payload", "internal/webfilter"},
		others: []string{prometheus},
	},
	{
		pkg: "internal/intake",
		ours: []string{
			"internal/bus", "internal/decode", "internal/delivery", "internal/dispatch", "internal/payload", "internal/plan", "internal/rule",
			"internal/store",
		},
		others: []string{prometheus},
	},

	// The operations of an operator, for the command line, the API and the console. It knows no flags and no HTTP.
	{
		pkg: "internal/admin",
		ours: []string{
			"internal/decode", "internal/delivery", "internal/payload", "internal/plan", "internal/preset", "internal/replay",
			"internal/rule", "internal/sender", "internal/store", "internal/suggest", "internal/webfilter", "pkg/event", "schema",
		},
	},

	// What puts it all together.
	{
		pkg: "internal/server", ours: []string{"internal/delivery", "internal/payload", "internal/rule", "internal/webfilter"},
		others: []string{prometheus}, guarded: []string{"net/http"},
	},
	{
		pkg: "internal/app",
		ours: []string{
			"internal/bus", "internal/config", "internal/decode", "internal/delivery", "internal/dispatch", "internal/egress", "internal/intake",
			"internal/webfilter/stage", "internal/payload", "internal/plan", "internal/queue", "internal/webfilter", "internal/rule",
			"internal/secret",
			"internal/sender", "internal/server", "internal/store", "schema",
		},
		others: []string{prometheus}, guarded: []string{"net/http"},
	},
	{
		pkg: "internal/cli",
		ours: []string{
			"internal/admin", "internal/app", "internal/config", "internal/delivery", "internal/preset", "internal/rule",
			"internal/sender", "internal/suggest", "internal/store", "schema",
		},
		others: []string{kong},
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
		pkg: "test/e2e/harness", ours: []string{"schema"}, others: []string{avro, driver, franz},
		guarded: []string{"database/sql", "net/http", "os/exec"},
	},
}

// notLinked are packages and modules that the daemon's binary must not hold: they are for tests and the sandbox.
var notLinked = []string{
	"github.com/openedx-webhooks/webhook-dispatcher/internal/fakes",
	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness",
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
