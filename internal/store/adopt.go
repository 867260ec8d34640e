package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// Switched is the state of a rule after it was adopted, released, enabled or disabled.
type Switched struct {
	Key     rule.Key
	Changed bool
	Why     string // nothing was changed
	// Adopted: the rule is the dispatcher's, not the plugin's. Enabled is its switch there.
	Adopted, Enabled bool
}

// Adopt hands rules to the dispatcher, each in one transaction: the row is disabled for the plugin,
// and the option takes over its switch and the time. An earlier adoption moves to the ownership
// periods in the option's document. An adopted rule is left alone, unless its row has been enabled
// for the plugin since: then it is adopted again, enabled.
//
// Rules are adopted in key order, and the result has those that were reached. Missing rules
// (*NoRuleError) and unreadable options do not stop the others; their errors are joined. Any other
// error ends it; earlier changes stay, and a second call continues. The account needs UPDATE on the
// plugin's tables.
//
// seen holds rows as last read. A row that has changed since is refused: daemons may not know its
// new state, and so not that its events may await the adoption. Rows not in seen are adopted as
// they are.
func (s *Store) Adopt(ctx context.Context, keys []rule.Key, seen map[rule.Key]rule.Row) ([]Switched, error) {
	return s.switchAll(ctx, keys, switching{"adopt", "already adopted", func(row *rule.Row, o *rule.Option, now time.Time) error {
		contested := o.Adopted() && row.Enabled
		if o.Adopted() && !contested {
			return nil
		}
		if then, ok := seen[o.Key]; ok && !then.Same(row) {
			return errors.New("its row has changed meanwhile: run it again")
		}
		if !o.AdoptedAt.IsZero() {
			document, err := withEarlier(o.Document, rule.OwnershipPeriod{From: o.AdoptedAt, Until: ownedUntil(row, o, now)}, now)
			if err != nil {
				return err
			}
			o.Document = document
		}
		o.Enabled, row.Enabled = row.Enabled, false
		o.AdoptedAt, o.ReleasedAt = now, time.Time{}
		return nil
	}})
}

// Release gives rules back to the plugin, each in one transaction: the row gets the option's
// switch, and the option notes the time. A row that was enabled for the plugin meanwhile stays
// enabled, and the time noted is that of the change. A rule that is not adopted is left alone.
// Order, errors and rights are as for Adopt.
func (s *Store) Release(ctx context.Context, keys []rule.Key) ([]Switched, error) {
	return s.switchAll(ctx, keys, switching{"release", "not adopted", func(row *rule.Row, o *rule.Option, now time.Time) error {
		if !o.Adopted() {
			return nil
		}
		o.ReleasedAt = ownedUntil(row, o, now)
		if row.Enabled && o.ReleasedAt.Equal(row.Modified) {
			o.ReleasedAt = o.ReleasedAt.Add(time.Microsecond) // an equal time means that our own switch was the last change
		}
		row.Enabled = row.Enabled || o.Enabled
		return nil
	}})
}

// ownedUntil returns the end of a rule's ownership period: now, unless it has ended. When the row
// of an adopted rule was enabled is known only from its modified time.
func ownedUntil(row *rule.Row, o *rule.Option, now time.Time) time.Time {
	switch {
	case !o.ReleasedAt.IsZero():
		return o.ReleasedAt
	case !row.Enabled || row.Modified.After(now):
		return now
	case !row.Modified.After(o.AdoptedAt): // the change did not set modified, so it may be recent
		return now
	}
	return row.Modified
}

// Former ownership periods are kept for events still in Kafka, read late or replayed from topics.
const (
	// keepEarlier is well above the default retention of topics, 7 days. Replays of older records
	// find no rule.
	keepEarlier = 35 * 24 * time.Hour
	// maxEarlier bounds the periods. Above it the two oldest are merged: events between them may be
	// sent twice, and none is lost.
	maxEarlier = 16
)

// withEarlier adds a former ownership period to a document of options.
func withEarlier(document string, period rule.OwnershipPeriod, now time.Time) (string, error) {
	d, err := rule.ParseDocument(document)
	if err != nil {
		return "", fmt.Errorf("%w: replace its options first", err)
	}
	d.Earlier = slices.DeleteFunc(append(d.Earlier, period), func(p rule.OwnershipPeriod) bool { return now.Sub(p.Until) > keepEarlier })
	slices.SortStableFunc(d.Earlier, func(a, b rule.OwnershipPeriod) int { return a.From.Compare(b.From) })
	for len(d.Earlier) > maxEarlier {
		if first := d.Earlier[0].Until; first.After(d.Earlier[1].Until) {
			d.Earlier[1].Until = first
		}
		d.Earlier[1].From = d.Earlier[0].From
		d.Earlier = d.Earlier[1:]
	}
	text, err := json.Marshal(&d)
	return string(text), err
}

// SetEnabled enables or disables a rule: in its option while it is adopted, else in the plugin's
// table, with a new modified time as Django sets it. An adopted rule whose row is enabled for the
// plugin is a *ContestedError, a missing one a *NoRuleError. The account needs UPDATE on the
// plugin's tables.
func (s *Store) SetEnabled(ctx context.Context, key rule.Key, on bool) (Switched, error) {
	to := switching{verb: "disable", stands: "already disabled"}
	if on {
		to = switching{verb: "enable", stands: "already enabled"}
	}
	to.decide = func(row *rule.Row, o *rule.Option, _ time.Time) error {
		switch {
		case !o.Adopted():
			row.Enabled = on
		case row.Enabled:
			return &ContestedError{key}
		default:
			o.Enabled = on
		}
		return nil
	}
	return s.switchRule(ctx, key, to)
}

// ContestedError reports an adopted rule whose row has been enabled for the plugin: both would
// send its events.
type ContestedError struct{ Key rule.Key }

// Error implements error.
func (e *ContestedError) Error() string {
	return "it is adopted, and somebody has enabled its row for the plugin, too"
}

// switching is a change of a rule's switch or owner.
type switching struct {
	verb   string
	stands string // why there may be nothing to change
	// decide changes the row's switch and the option. now is by the database's clock.
	decide func(row *rule.Row, option *rule.Option, now time.Time) error
}

func (s *Store) switchAll(ctx context.Context, keys []rule.Key, to switching) (done []Switched, err error) {
	keys = slices.Clone(keys)
	slices.SortFunc(keys, rule.CompareKeys)
	err = each(slices.Compact(keys), func(key rule.Key) error {
		one, err := s.switchRule(ctx, key, to)
		if err == nil {
			done = append(done, one)
		}
		return err
	})
	return done, err
}

// switchTime bounds the time from noting a switch to its commit. In between the plugin still acts
// as before while ownership periods already use the noted time; rule.Skew covers this and the
// difference of clocks.
const switchTime = 10 * time.Second

func (s *Store) switchRule(ctx context.Context, key rule.Key, to switching) (result Switched, err error) {
	table, err := ruleTable(key)
	if err != nil {
		return Switched{}, fmt.Errorf("%s: %w", to.verb, err)
	}
	err = s.transaction(ctx, to.verb+" "+key.String(), func(tx *sql.Tx) error {
		result, err = to.one(ctx, tx, key, table)
		return err
	})
	if err != nil {
		return Switched{}, err
	}
	return result, nil
}

// one locks a rule's row, then its option, and changes them. Everything that locks both uses this
// order.
func (to switching) one(ctx context.Context, tx *sql.Tx, key rule.Key, table string) (result Switched, err error) {
	before, err := ruleOf(ctx, tx, key, " FOR UPDATE")
	if err != nil {
		return result, err
	}
	stored, err := lockOption(ctx, tx, key)
	if err != nil {
		return result, err
	}
	var now time.Time // read after waiting for the locks
	if err := tx.QueryRowContext(ctx, "SELECT UTC_TIMESTAMP(6)").Scan(&now); err != nil {
		return result, err
	}
	noted := time.Now()
	now = now.Truncate(time.Microsecond) // the embedded database returns more digits
	row := before
	result = Switched{Key: key}
	result.Changed, err = writeChange(ctx, tx, stored, stored.of(key, &row), func(o *rule.Option) error {
		if err := to.decide(&row, o, now); err != nil {
			return own{err}
		}
		result.Adopted, result.Enabled = o.Adopted(), row.Enabled
		if result.Adopted {
			result.Enabled = o.Enabled
		}
		return nil
	})
	if err != nil {
		return result, err
	}
	if row.Enabled != before.Enabled {
		result.Changed = true
		if _, err := tx.ExecContext(ctx, "UPDATE "+table+" SET enabled = ?, modified = ? WHERE id = ?",
			tinyintOf(row.Enabled), now, key.ID); err != nil {
			return result, err
		}
	}
	if !result.Changed {
		result.Why = to.stands
	}
	if took := time.Since(noted); took > switchTime {
		return result, fmt.Errorf("it took %s, so nothing was changed: run it again", took.Round(time.Second))
	}
	return result, nil
}
