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
	// Store is for all operations but those on events and samples.
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

// Store holds deliveries, undecodable records and rules; *store.Store is one.
type Store interface {
	replay.Rows
	replay.Records

	Now(ctx context.Context) (time.Time, error)

	// Rows of deliveries, and the attempt log.
	List(ctx context.Context, f store.Selection, limit int) (found []store.Summary, more bool, err error)
	Summary(ctx context.Context, id delivery.ID) (store.Summary, bool, error)
	SummaryOfRow(ctx context.Context, row uint64) (store.Summary, bool, error)
	Get(ctx context.Context, id delivery.ID) (delivery.Row, bool, error)
	Attempts(ctx context.Context, id delivery.ID) ([]delivery.Attempt, error)
	Waiting(ctx context.Context, lane delivery.Lane) (rows int, err error)
	CountDead(ctx context.Context, f store.Selection) (store.Dead, error)
	ReplayDead(ctx context.Context, f store.Selection) (replayed int, err error)
	EndedPage(
		ctx context.Context, state delivery.State, f store.Selection, after store.EndedRow, limit int,
	) ([]store.Summary, store.EndedRow, error)

	// Undecodable records.
	ListUndecodable(ctx context.Context, reason string, limit int) (found []store.KeptRecord, more bool, err error)
	UndecodableIDs(ctx context.Context, reason string, after, upTo uint64, limit int) ([]uint64, error)

	// Rules.
	Rules(ctx context.Context) (rule.Tables, error)
	AddWebhook(ctx context.Context, row rule.Row, option func(id int32, created time.Time) (*rule.Option, error)) (int32, error)
	AddWebfilter(ctx context.Context, row rule.WebfilterRow, option func(id int32, created time.Time) (*rule.Option, error)) (int32, error)
	ChangeOption(ctx context.Context, key rule.Key, change func(row rule.Row, option *rule.Option) error) (changed bool, err error)
	ChangeWebfilter(ctx context.Context, id int32, change func(*rule.WebfilterRow) error) (changed bool, err error)
	SetEnabled(ctx context.Context, key rule.Key, on bool) (store.Switched, error)
	ResumeRule(ctx context.Context, key rule.Key) (resumed bool, err error)
	ClearFailing(ctx context.Context, lane delivery.Lane) error
	Adopt(ctx context.Context, keys []rule.Key, seen map[rule.Key]rule.Row) ([]store.Switched, error)
	Release(ctx context.Context, keys []rule.Key) ([]store.Switched, error)
	Reseal(ctx context.Context, change func(*rule.Option) error) (changed int, err error)
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
