package cli

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql" // for a look at the rows
	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/fakes"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	registered = "org.openedx.learning.student.registration.completed.v1"
	learner    = "canary-learner" // in every event; no output of a replay may hold it
)

var began = time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)

// site is an installation on embedded servers, without a daemon.
type site struct {
	t        *testing.T
	broker   *fakes.Broker
	registry *fakes.Registry
	db       *sql.DB
	store    *store.Store
	env      []string
	avro     *avro.Schema
	text     string // of the schema
	id       int    // of the schema, in the registry
	rule     rule.Row
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t}
	database, err := fakes.StartDatabase()
	s.must(err)
	t.Cleanup(func() { s.must(database.Close()) })
	dsn := database.DSN()
	_, err = store.Migrate(t.Context(), store.Options{DSN: dsn}, store.MigrateOptions{WithPluginTables: true})
	s.must(err)
	s.db, err = sql.Open("mysql", dsn)
	s.must(err)
	t.Cleanup(func() { s.must(s.db.Close()) })
	s.store, err = store.Open(store.Options{DSN: dsn})
	s.must(err)
	t.Cleanup(func() { s.must(s.store.Close()) })
	s.registry, err = fakes.StartRegistry(fakes.RegistryOptions{FirstID: 3})
	s.must(err)
	t.Cleanup(func() { s.must(s.registry.Close()) })
	s.broker, err = fakes.StartBroker(fakes.BrokerOptions{Topics: map[string]int32{"dev-a": 2, "dev-b": 1}})
	s.must(err)
	t.Cleanup(s.broker.Close)
	s.text, _ = loadCatalogue(t).Avro(registered)
	s.avro, err = avro.Parse(s.text)
	s.must(err)
	s.id = s.registry.Register(s.text)
	_, err = s.store.AddWebhook(t.Context(), rule.Row{Event: "STUDENT_REGISTRATION_COMPLETED", URL: "http://x/", Enabled: true}, nil)
	s.must(err)
	table, err := s.store.Rules(t.Context())
	s.must(err)
	s.rule = table.Webhooks[0]
	s.env = []string{
		"EVENT_BUS_KAFKA_BOOTSTRAP_SERVERS=" + s.broker.Addrs()[0], "EVENT_BUS_KAFKA_SCHEMA_REGISTRY_URL=" + s.registry.URL(),
		"EVENT_BUS_TOPIC_PREFIX=dev", "WEBHOOK_DISPATCHER_TOPICS=a,b", "WEBHOOK_DISPATCHER_MYSQL_DSN=" + dsn,
	}
	return s
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// publish sends the registration of learner n, n minutes after began.
func (s *site) publish(topic string, partition int32, n, schemaID int) {
	s.t.Helper()
	value, err := s.avro.AppendEncode(binary.BigEndian.AppendUint32([]byte{0}, uint32(schemaID)), map[string]any{"user": map[string]any{
		"id": int64(n), "is_active": true, "pii": map[string]any{"username": learner, "email": learner, "name": learner},
	}})
	s.must(err)
	at := began.Add(time.Duration(n) * time.Minute)
	s.must(s.broker.Publish(s.t.Context(), fakes.Message{
		Topic: topic, Partition: partition, Value: value, Time: at, Key: []byte(learner),
		Headers: []kgo.RecordHeader{
			{Key: "ce_type", Value: []byte(registered)},
			{Key: "ce_id", Value: []byte(eventName(n))},
			{Key: "ce_source", Value: []byte("lms")},
			{Key: "ce_time", Value: []byte(at.Format(time.RFC3339))},
		},
	}))
}

func eventName(n int) string { return fmt.Sprintf("event-%d", n) }

// deliveryID is that of event n for the site's rule.
func (s *site) deliveryID(n int) delivery.ID {
	return delivery.NewID("lms", eventName(n), registered, delivery.KindWebhook, s.rule.ID, s.rule.Created)
}

// put makes a row of event n.
func (s *site) put(n int, state delivery.State, body string) {
	s.t.Helper()
	in := delivery.Insert{State: delivery.Pending, Reason: delivery.ReasonStatus, Delivery: delivery.Delivery{
		ID: s.deliveryID(n), Kind: delivery.KindWebhook, RuleID: s.rule.ID, EventType: registered, EventID: eventName(n),
		EventTime: began.Add(time.Duration(n) * time.Minute), Format: delivery.FormatJSON, Body: []byte(body),
	}}
	s.must(s.store.Insert(s.t.Context(), []delivery.Insert{in}))
	if state != delivery.Pending {
		_, err := s.db.ExecContext(s.t.Context(),
			"UPDATE webhook_dispatcher_delivery SET state = ?, due_at = NULL, reason = '' WHERE webhook_id = ?", state, in.ID[:])
		s.must(err)
	}
}

// run runs a command and returns what it printed. Neither stdout nor stderr may name the learner of
// an event.
func (s *site) run(code int, args ...string) (stdout, stderr string) {
	s.t.Helper()
	return s.runIn(s.t.Context(), code, args...)
}

func (s *site) runIn(ctx context.Context, code int, args ...string) (stdout, stderr string) {
	s.t.Helper()
	var out, err bytes.Buffer
	if got := Run(ctx, args, &Process{Environ: s.env, Stdout: &out, Stderr: &err}); got != code {
		s.t.Errorf("%s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, code, out.String(), err.String())
	}
	if strings.Contains(out.String()+err.String(), learner) {
		s.t.Errorf("%s shows learners' data:\n%s%s", strings.Join(args, " "), out.String(), err.String())
	}
	return out.String(), err.String()
}

// rows returns "event state reason" of all rows, sorted.
func (s *site) rows(where string) []string {
	s.t.Helper()
	rows, err := s.db.QueryContext(s.t.Context(), `SELECT CONCAT(event_id, ' ', state, ' ', reason, ' ', body_size > 0)
  FROM webhook_dispatcher_delivery WHERE `+where)
	s.must(err)
	defer rows.Close()
	var all []string
	for rows.Next() {
		var one string
		s.must(rows.Scan(&one))
		all = append(all, one)
	}
	s.must(rows.Err())
	slices.Sort(all)
	return all
}

// compare tells line by line what differs.
func (s *site) compare(what, got string, want ...string) {
	s.t.Helper()
	if w := strings.Join(want, "\n") + "\n"; got != w {
		s.t.Errorf("%s:\n%s\nwant:\n%s", what, got, w)
	}
}

func (s *site) wantRows(where string, want ...string) {
	s.t.Helper()
	if got := s.rows(where); !slices.Equal(got, want) {
		s.t.Errorf("rows where %s:\n%s\nwant:\n%s", where, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func loadCatalogue(t *testing.T) *schema.Catalogue {
	t.Helper()
	c, err := schema.LoadCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	return c
}
