package rule

import (
	"cmp"
	"fmt"
	"strconv"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// Table is one of the plugin's two tables of rules. Its number is the kind of its rules' deliveries, as in the kind columns of our tables.
type Table uint8

// The tables.
const (
	Webhooks   = Table(delivery.KindWebhook)
	Webfilters = Table(delivery.KindEvent)
)

// ParseTable reads what String writes. Everything else is Webhooks.
func ParseTable(name string) Table {
	if name == "webfilter" {
		return Webfilters
	}
	return Webhooks
}

// either returns the text for the table.
func (t Table) either(webhooks, webfilters string) string {
	if t == Webfilters {
		return webfilters
	}
	return webhooks
}

// String returns the word that commands, logs and JSON use for a rule of the table.
func (t Table) String() string { return t.either("webhook", "webfilter") }

// LogKey returns the name of the log attribute that holds the id of a rule of the table.
func (t Table) LogKey() string { return t.either("rule_id", "webfilter") }

// Kind returns the kind of deliveries that rules of the table make.
func (t Table) Kind() delivery.Kind { return delivery.Kind(t) }

// Key identifies a rule: its row in one of the plugin's tables. Ids of the two tables have nothing to do with each other.
type Key struct {
	Table Table
	ID    int32
}

// KeyOf returns the rule that a queue belongs to, if any: events without known webfilters, and inbound webhooks, have queues of their own.
func KeyOf(lane delivery.Lane) (Key, bool) {
	key := Key{Table(lane.Kind), lane.RuleID}
	return key, key.Table == Webhooks || key.Table == Webfilters && key.ID > 0
}

// Lane returns the queue of the rule's deliveries.
func (k Key) Lane() delivery.Lane { return delivery.Lane{Kind: k.Table.Kind(), RuleID: k.ID} }

// String returns what errors call the rule, such as "webfilter rule 7".
func (k Key) String() string { return fmt.Sprintf("%s rule %d", k.Table, k.ID) }

// Label names the rule within a sentence: "rule 7" or "webfilter 7".
func (k Key) Label() string { return fmt.Sprintf("%s %d", k.Table.either("rule", "webfilter"), k.ID) }

// Arguments returns what a command such as rules set needs to find the rule: its id, and its table where that is not Webhooks.
func (k Key) Arguments() string { return strconv.Itoa(int(k.ID)) + k.Table.Flag() }

// Flag returns the flag, with a space before it, that makes a command mean this table; "" for Webhooks, the default.
func (t Table) Flag() string { return t.either("", " --kind webfilter") }

// CompareKeys orders keys by table and id.
func CompareKeys(a, b Key) int { return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(a.ID, b.ID)) }
