package architecture_test

// row says what a package may import in addition to the standard library. Test files may import
// anything. Packages below it share its row, and may import each other and it.
type row struct {
	pkg string
	// ours are packages of this module.
	ours []string
	// others are other modules, or parts of them.
	others []string
	// guarded are the packages of guardedStd that it may import.
	guarded []string
}

// guardedStd are packages of the standard library that only some packages may import.
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
	xtext      = "golang.org/x/text"
	xtime      = "golang.org/x/time"
)

// shared are packages and modules that all may import.
var shared = []string{module + "/internal/backoff", module + "/internal/metric", xtime}

// table is the import table of the design. Imports point one way. A new package gets a row; a new
// import is added to a row only if the package is meant to know of it.
var table = []row{
	// Public packages and embedded data.
	{pkg: "pkg/event"},
	{pkg: "pkg/signature"},
	{pkg: "schema"},

	// No Kafka, HTTP or SQL, and no clock of their own.
	{pkg: "internal/backoff"},
	{pkg: "internal/bus"}, // the contract, and the checkpoint that a bus may use
	{pkg: "internal/metric", others: []string{prometheus}},
	{pkg: "internal/suggest"},
	{pkg: "internal/delivery"},
	{pkg: "internal/breaker", ours: []string{"internal/delivery"}, others: []string{breaker}},
	{pkg: "internal/payload", ours: []string{"internal/delivery", "pkg/event"}},
	{pkg: "internal/expression", ours: []string{"internal/payload", "internal/suggest"}, others: []string{gojq}},
	{
		pkg: "internal/rule",
		ours: []string{
			"internal/delivery", "internal/expression", "internal/payload", "internal/secret", "internal/suggest", "pkg/signature", "schema",
		},
		others: []string{prometheus, xnet},
	},
	{pkg: "internal/inflight", ours: []string{"internal/delivery"}},
	{pkg: "internal/plan", ours: []string{"internal/delivery", "internal/expression", "internal/payload", "internal/rule"}},
	{pkg: "internal/preset", ours: []string{"internal/rule"}},
	{pkg: "internal/secret"},
	{pkg: "internal/dsn", others: []string{driver}},

	// Each reaches one outside system.
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
		pkg: "internal/sender", ours: []string{"internal/delivery", "internal/egress", "internal/rule", "pkg/event", "pkg/signature"},
		others: []string{resty, prometheus, xnet, oauth2}, guarded: []string{"net/http"},
	},
	{
		pkg: "internal/store", ours: []string{"internal/bus", "internal/delivery", "internal/dsn", "internal/rule", "pkg/event", "schema"},
		others: []string{gorm, driver, goose}, guarded: []string{"database/sql"},
	},

	// The logic, which reaches outside systems through its own interfaces.
	{
		pkg: "internal/dispatch",
		ours: []string{
			"internal/breaker", "internal/delivery", "internal/expression", "internal/inflight", "internal/payload", "internal/plan",
			"internal/rule",
		},
		others: []string{prometheus},
	},
	{
		pkg: "internal/replay",
		ours: []string{
			"internal/bus", "internal/decode", "internal/delivery", "internal/payload", "internal/plan", "internal/rule", "internal/store",
			"pkg/event",
		},
	},
	{pkg: "internal/queue", ours: []string{"internal/delivery"}, others: []string{prometheus}},
	{
		pkg:    "internal/webfilter",
		ours:   []string{"internal/breaker", "internal/delivery", "internal/payload", "internal/rule", "internal/sender"},
		others: []string{prometheus, xtext},
	},
	{
		pkg:    "internal/webfilter/stage",
		ours:   []string{"internal/delivery", "internal/inflight", "internal/payload", "internal/rule", "internal/webfilter"},
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

	// What an operator can do, without flags and HTTP.
	{
		pkg: "internal/admin",
		ours: []string{
			"internal/bus", "internal/decode", "internal/delivery", "internal/payload", "internal/plan", "internal/preset", "internal/replay",
			"internal/rule", "internal/sender", "internal/store", "internal/suggest", "internal/webfilter", "pkg/event", "schema",
		},
	},

	// The servers, and the wiring.
	{
		pkg: "internal/server", ours: []string{"internal/payload", "internal/rule", "internal/webfilter"},
		others: []string{prometheus}, guarded: []string{"net/http"},
	},
	{
		pkg: "internal/app",
		ours: []string{
			"internal/bus/kafka", "internal/config", "internal/decode", "internal/delivery", "internal/dispatch",
			"internal/egress", "internal/intake", "internal/payload", "internal/plan", "internal/queue", "internal/rule",
			"internal/sender", "internal/server", "internal/store", "internal/webfilter", "internal/webfilter/stage", "schema",
		},
		others: []string{prometheus},
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
		pkg:     "internal/fakes",
		others:  []string{franz, mysqlInGo, "github.com/sirupsen/logrus"},
		guarded: []string{"net/http"},
	},
	{
		pkg: "cmd/sandbox", ours: []string{everything, "internal/fakes"}, others: []string{kong},
		guarded: []string{"net/http"},
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

// notLinked are packages and modules for tests and the sandbox, which the daemon must not link.
var notLinked = []string{
	"github.com/openedx-webhooks/webhook-dispatcher/internal/fakes",
	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness",
	"github.com/twmb/franz-go/pkg/kfake",
	mysqlInGo,
	"testing",
}

// lineLimits are the maximum lines of a file by the prefix of its path; the first match counts.
var lineLimits = []struct {
	under string
	lines int
}{
	{"cmd/", 200},
	{"", 400},
}
