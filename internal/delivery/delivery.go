// Package delivery holds what a delivery is: its identity, its states and the transitions between
// them, the outcome of an attempt, and the retry policy.
//
// It is pure: no SQL, no HTTP, no clock of its own. The states and who moves a delivery between
// them:
//
//	                   first try failed, handed off, or spilled
//	  (memory) ─────────────────────────────┬──────────────► row
//	     │ 2xx                              │
//	     ▼                                  ▼
//	 delivered        ┌──────────────── pending ◄───────────────┐
//	(no row at all)   │ claim             ▲                     │ replay, same id
//	                  ▼                   │ failed, next delay; │
//	               leased ────────────────┤ lease run out       │
//	                  │  │                                      │
//	          2xx     │  │ last delay used up, 410, too large…  │
//	                  ▼  ├───────────────────────────────────► dead
//	              delivered
//	                     └── its filter, or a webfilter ─────► halted
package delivery

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kind is what a row is for. The numbers are those of the kind column.
type Kind uint8

// The kinds.
const (
	KindWebhook Kind = 1 // a delivery of an event by a webhook rule
	KindEvent   Kind = 2 // an event waiting for its webfilters
	KindInbox   Kind = 3 // an inbound webhook waiting for its LMS calls
)

var kindNames = [...]string{KindWebhook: "webhook", KindEvent: "event", KindInbox: "inbox"}

// String returns the name that commands and the wire use.
func (k Kind) String() string { return nameOf(kindNames[:], uint8(k), "kind") }

// nameOf returns the name of number n, or what it is and the number if it has no name.
func nameOf(names []string, n uint8, what string) string {
	if int(n) < len(names) && names[n] != "" {
		return names[n]
	}
	return fmt.Sprintf("%s(%d)", what, n)
}

// Lane identifies a per-rule queue: all deliveries of one rule.
type Lane struct {
	Kind   Kind
	RuleID int32
}

// State is where a row stands. The numbers are those of the state column.
type State uint8

// The states of a row.
const (
	Pending   State = 0 // waits until due_at
	Leased    State = 1 // being sent by the holder of the lease token until due_at
	Delivered State = 2 // ended: a 2xx answer
	Dead      State = 3 // ended: given up; replay makes it pending again
	Halted    State = 4 // ended: a webfilter or the rule's filter stopped it
)

var stateNames = [...]string{"pending", "leased", "delivered", "dead", "halted"}

// String returns the name that commands use.
func (s State) String() string { return nameOf(stateNames[:], uint8(s), "state") }

// States returns every state, in the order of their numbers.
func States() []State { return []State{Pending, Leased, Delivered, Dead, Halted} }

// ParseState reads a state's name.
func ParseState(name string) (State, error) {
	if i := slices.Index(stateNames[:], name); i >= 0 {
		return State(i), nil
	}
	return 0, fmt.Errorf("unknown state %q: write one of %s", name, strings.Join(stateNames[:], ", "))
}

// Ended reports whether no further attempt follows, except by a replay.
func (s State) Ended() bool { return s >= Delivered }

// Format is how a body is encoded. The numbers are those of the body_format column.
type Format uint8

// The formats.
const (
	FormatJSON Format = 1 // application/json
	FormatForm Format = 2 // application/x-www-form-urlencoded
	// FormatEvent is the event itself, as in a plain rule's JSON body. It is kept if the body could
	// not be rendered; each attempt renders it again.
	FormatEvent       Format = 3
	FormatCloudEvents Format = 4 // a CloudEvent in structured mode, application/cloudevents+json
)

var formatNames = [...]string{FormatJSON: "json", FormatForm: "form", FormatEvent: "event", FormatCloudEvents: "cloudevents"}

// String returns the name that commands use.
func (f Format) String() string { return nameOf(formatNames[:], uint8(f), "format") }

// ContentType returns the media type of the body.
func (f Format) ContentType() string {
	switch f {
	case FormatForm:
		return "application/x-www-form-urlencoded"
	case FormatCloudEvents:
		return "application/cloudevents+json"
	default:
		return "application/json"
	}
}

// ID identifies a delivery: the same event for the same rule always has the same ID.
type ID [16]byte

const idPrefix = "msg_"

// NewID returns the ID of the delivery of an event to a rule: the first 16 bytes of the SHA-256 of
// these, each preceded by its length as four bytes big-endian: source, id and type of the event,
// the kind's name, the rule's id in decimal, and the rule's created in UTC as RFC 3339 with
// microseconds.
func NewID(source, id, eventType string, kind Kind, ruleID int32, ruleCreated time.Time) ID {
	var stack [512]byte
	buf := stack[:0]
	for _, part := range [...]string{source, id, eventType, kind.String()} {
		buf = binary.BigEndian.AppendUint32(buf, uint32(len(part)))
		buf = append(buf, part...)
	}
	var id32, created [32]byte
	for _, part := range [...][]byte{
		strconv.AppendInt(id32[:0], int64(ruleID), 10),
		ruleCreated.UTC().AppendFormat(created[:0], "2006-01-02T15:04:05.000000Z"),
	} {
		buf = binary.BigEndian.AppendUint32(buf, uint32(len(part)))
		buf = append(buf, part...)
	}
	sum := sha256.Sum256(buf)
	return ID(sum[:16])
}

// Run identifies one run of a replay. It is random.
type Run [16]byte

// Renew returns the new ID under which a run sends the delivery of id again: the first 16 bytes of
// the SHA-256 of id and run. It is stable within a run, so that a repeated step creates no second
// row, and different in every other run.
func Renew(id ID, run Run) ID {
	sum := sha256.Sum256(slices.Concat(id[:], run[:]))
	return ID(sum[:16])
}

// ParseID reads an ID as String writes it; the prefix may be left out.
func ParseID(s string) (ID, error) {
	raw, err := hex.DecodeString(strings.TrimPrefix(s, idPrefix))
	if err != nil || len(raw) != len(ID{}) {
		return ID{}, fmt.Errorf("webhook id %q: want %s followed by 32 hexadecimal digits", s, idPrefix)
	}
	return ID(raw), nil
}

// String returns the value of the webhook-id header.
func (id ID) String() string {
	var buf [len(idPrefix) + 2*len(id)]byte
	copy(buf[:], idPrefix)
	hex.Encode(buf[len(idPrefix):], id[:])
	return string(buf[:])
}

// MaxText is the size of our tables' text columns in characters.
const MaxText = 191

// Cut returns at most the first n characters of s.
func Cut(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}

// Token proves who holds a lease. The zero Token holds none.
type Token [16]byte

// NewToken returns a random token.
func NewToken() Token {
	var t Token
	_, _ = rand.Read(t[:]) // never fails
	return t
}

// Delivery is one body for one rule's endpoint. URL, headers and limits belong to the rule and are
// read at each attempt.
type Delivery struct {
	ID          ID
	Kind        Kind
	RuleID      int32
	EventType   string
	EventID     string
	EventTime   time.Time // ce_time; for KindEvent it is the record's time, which is not in the body
	Format      Format
	Body        []byte
	Traceparent string
}

// Lane returns the queue that d belongs to.
func (d *Delivery) Lane() Lane { return Lane{Kind: d.Kind, RuleID: d.RuleID} }

// Row is a delivery as the store holds it.
type Row struct {
	Delivery
	RowID      uint64
	State      State
	DueAt      time.Time // database time; zero for an ended row
	Token      Token     // set on a row that this process has claimed
	Claims     int
	Attempts   int
	Reason     Reason
	LastStatus int
	CreatedAt  time.Time
	UpdatedAt  time.Time
}

// Insert is a row to create. An existing row with the same ID, in any state, stays unchanged.
type Insert struct {
	Delivery
	State      State         // Pending, Leased or Dead
	Delay      time.Duration // from the insert until the row is due (Pending) or its lease expires (Leased)
	Token      Token         // of a Leased row
	Attempts   int
	Claims     int
	Reason     Reason
	LastStatus int
}

// Update is the result of a lease. It applies only while the row has the token.
type Update struct {
	ID         ID
	Token      Token
	State      State
	Delay      time.Duration // from the update until a Pending row is due
	Attempts   int           // counted attempts so far, this one included
	Claims     int           // claims so far
	Reason     Reason
	LastStatus int
}

// Attempt is one request and its outcome, as the attempt log keeps it.
type Attempt struct {
	ID         ID
	Kind       Kind
	RuleID     int32
	EventType  string
	Number     int // of the delivery's attempts, from 1
	At         time.Time
	Duration   time.Duration
	Status     int           // of HTTP, 0 without an answer
	Class      ErrorClass    // why there is no usable answer, "" if there is one
	Response   []byte        // the raw beginning of the answer's body, at most 4096 bytes
	RetryAfter time.Duration // the delay that the endpoint asked for, if any
	Final      bool          // further attempts would fail too unless the rule is changed
}

// OK reports whether the endpoint accepted the delivery.
func (a *Attempt) OK() bool { return a.Class == "" && a.Status >= 200 && a.Status <= 299 }

// ErrorClass is why there is no usable answer; a metric label and a column of the attempt log.
type ErrorClass string

// The error classes.
const (
	ClassDNS        ErrorClass = "dns"           // the name did not resolve
	ClassConnect    ErrorClass = "connect"       // refused, unreachable, no route
	ClassTLS        ErrorClass = "tls"           // handshake or certificate
	ClassTimeout    ErrorClass = "timeout"       // the deadline for the whole exchange passed
	ClassReset      ErrorClass = "reset"         // the connection broke in the middle
	ClassProtocol   ErrorClass = "protocol"      // not HTTP, or more than the limits allow
	ClassEgress     ErrorClass = "egress_denied" // the address is not allowed
	ClassRequest    ErrorClass = "request"       // the rule's URL or a header is invalid
	ClassCancelled  ErrorClass = "cancelled"     // this process gave up
	ClassExpression ErrorClass = "expression"    // the rule's filter or transform failed; Response has its error
	ClassFiltered   ErrorClass = "filtered"      // the rule's filter does not match, which it did, or could not decide, before
	ClassHalted     ErrorClass = "halted"        // a webfilter stopped the event; Response says how
	ClassToken      ErrorClass = "token"         // the authorization server issued no access token
	ClassOther      ErrorClass = "other"
)

// Reason is why a row is in its state; the reason column.
type Reason string

// The reasons.
const (
	ReasonNone         Reason = ""
	ReasonHandOff      Reason = "hand_off"      // the first try took longer than the hand-off time
	ReasonSpill        Reason = "spill"         // its lane was full and blocked others
	ReasonDrain        Reason = "drain"         // its process stopped or lost the partition
	ReasonStatus       Reason = "http_status"   // not a 2xx answer
	ReasonError        Reason = "error"         // no answer; the attempt log has the class
	ReasonRetryAfter   Reason = "retry_after"   // the endpoint asked for a delay
	ReasonExhausted    Reason = "exhausted"     // dead: the schedule is used up
	ReasonGone         Reason = "gone"          // dead: 410
	ReasonRuleDeleted  Reason = "rule_deleted"  // dead: its rule no longer exists
	ReasonTooLarge     Reason = "too_large"     // dead: the body does not fit a row
	ReasonCrashLoop    Reason = "crash_loop"    // dead: claimed five times more often than attempted
	ReasonEgressDenied Reason = "egress_denied" // the address is not allowed
	ReasonUnsendable   Reason = "unsendable"    // the rule's URL or a header is invalid
	ReasonExpired      Reason = "expired"       // dead: not tried for the pending retention time
	ReasonCircuitOpen  Reason = "circuit_open"  // the circuit breaker of its rule is open
	ReasonPaused       Reason = "rule_paused"   // its rule is paused
	ReasonQueueLimit   Reason = "queue_limit"   // dead, without its body: the queue limit was reached
	ReasonReplay       Reason = "replay"        // created by a replay
	ReasonExpression   Reason = "expression"    // dead: the rule's filter or transform failed; also a reason for a pause
	ReasonFiltered     Reason = "filtered"      // halted: the rule's filter does not match after all
	ReasonHalted       Reason = "halted"        // halted: a webfilter stopped the event
	ReasonFiltering    Reason = "filtering"     // its event had become a row while in its webfilters
)

// Reasons returns every reason except ReasonNone.
func Reasons() []Reason {
	return []Reason{
		ReasonHandOff, ReasonSpill, ReasonDrain, ReasonStatus, ReasonError, ReasonRetryAfter, ReasonExhausted, ReasonGone,
		ReasonRuleDeleted, ReasonTooLarge, ReasonCrashLoop, ReasonEgressDenied, ReasonUnsendable, ReasonExpired,
		ReasonCircuitOpen, ReasonPaused, ReasonQueueLimit, ReasonReplay, ReasonExpression, ReasonFiltered,
		ReasonHalted, ReasonFiltering,
	}
}
