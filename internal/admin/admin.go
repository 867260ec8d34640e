// Package admin holds the operations of an operator: to list, show, add, change, adopt, release and
// test rules, to list, show and replay deliveries and records that could not be decoded, to show
// samples of events, and to rotate the keys of secrets.
// The command line, the API and the console are faces of these operations.
//
// An operation takes typed values and returns a typed view. A view has the names, the order and the
// values of the JSON document that all faces give out; fields without a JSON name are for text. A
// bulk operation counts first: without Apply it changes nothing and returns what it would do, and
// with Apply it does that and returns what it did. What takes long reports its progress to a
// function of the caller.
//
// What is wrong with a request is a *Problem, what does not exist a *NotFoundError, a rule that is
// in the way a *RuleStateError. Every other error is a failure: a database, a broker or a registry
// that does not answer.
//
// The package knows no flags, commands, exit codes or HTTP, prints nothing, and reads no settings
// and no files. What connects to something is built by the caller and given in Options.
package admin

import (
	"context"
	"errors"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/replay"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/sender"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// Options are what operations need. Those that are not required may be left out by a caller that
// never uses the operations named.
type Options struct {
	// Catalogue has the events of the platform. It is required.
	Catalogue *schema.Catalogue
	// Store is for all operations but those on events and samples; *store.Store is one.
	Store Store
	// Compiler is for operations on rules, and for replays that make requests of events again. It
	// must be as the daemons have it.
	Compiler *rule.Compiler
	// RulesRefresh is how often daemons read the rules, for adoptions.
	RulesRefresh time.Duration
	// Sender is for tests of rules. It must be as the daemons have it.
	Sender *sender.Sender
	// Log and Decoder are for replays that read topics or decode records. Decoder is called for
	// each replay and returns a decoder of its own, which need not be safe for concurrent use.
	Log     replay.LogReader
	Decoder func() (decode.Decoder, error)
	// AllTopics says that all topics are read, so that records which are not events are expected.
	AllTopics bool
	// Keys seal the secrets of rules.
	Keys Keys
}

// Store holds deliveries, undecodable records and rules.
type Store interface {
	DeliveryStore
	DeadStore
	RecordStore
	SecretStore
	RuleStore
	replay.Rows
	replay.Records

	Rules(ctx context.Context) (rule.Tables, error)
}

// RecordStore lists undecodable records.
type RecordStore interface {
	ListUndecodable(ctx context.Context, reason string, limit int) (found []store.KeptRecord, more bool, err error)
	UndecodableIDs(ctx context.Context, reason string, after, upTo uint64, limit int) ([]uint64, error)
}

// DeadStore counts and replays rows of deliveries that have ended.
type DeadStore interface {
	CountDead(ctx context.Context, f store.Selection) (store.Dead, error)
	ReplayDead(ctx context.Context, f store.Selection) (replayed int, err error)
	EndedPage(
		ctx context.Context, state delivery.State, f store.Selection, after store.EndedRow, limit int,
	) ([]store.Summary, store.EndedRow, error)
	Waiting(ctx context.Context, lane delivery.Lane) (rows int, err error)
}

// DeliveryStore reads rows of deliveries and the attempt log.
type DeliveryStore interface {
	Now(ctx context.Context) (time.Time, error)
	List(ctx context.Context, f store.Selection, limit int) (found []store.Summary, more bool, err error)
	Summary(ctx context.Context, id delivery.ID) (store.Summary, bool, error)
	SummaryOfRow(ctx context.Context, row uint64) (store.Summary, bool, error)
	Get(ctx context.Context, id delivery.ID) (delivery.Row, bool, error)
	Attempts(ctx context.Context, id delivery.ID) ([]delivery.Attempt, error)
}

// Admin runs operations. It has no state of its own and is safe for concurrent use.
type Admin struct{ o Options }

// New returns an Admin. It connects to nothing.
func New(o Options) (*Admin, error) {
	if o.Catalogue == nil {
		return nil, errors.New("new admin: a catalogue is needed")
	}
	return &Admin{o}, nil
}
