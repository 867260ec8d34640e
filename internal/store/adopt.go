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

// Switched is how a rule stands that was to be adopted, released, switched on or off.
type Switched struct {
	Key rule.Key
	// Changed reports whether anything was changed; where not, Why says how the rule stood already.
	Changed bool
	Why     string
	// Adopted tells whose the rule is now: the dispatcher's, or the plugin's. Enabled is its switch there.
	Adopted, Enabled bool
}

// Adopt hands rules to the dispatcher, each in one transaction: its row is switched off for the plugin, and its option takes over how the
// switch stood and notes the time. What was noted of an earlier adoption is kept among the ownership periods of the option's document. A rule that
// is adopted already is left alone, unless somebody has enabled its row for the plugin since: then it is taken back, switched on.
//
// It takes the rules in the order of their keys and returns how those stand that it got to. A rule that is not there (*NoRuleError) or whose
// options cannot be read keeps no other from its switch; such errors are joined. Any other ends it: what was switched before stays so, and
// a second call goes on. It needs an account that may UPDATE the plugin's tables.
//
// seen has rows as they were looked at: one that was changed since is left alone, with an error. Daemons may not know yet what it is now,
// and so not that an event may wait for its adoption. Rows that are not in it are adopted as they are.
func (s *Store) Adopt(ctx context.Context, keys []rule.Key, seen map[rule.Key]rule.Row) ([]Switched, error) {
	return s.switchAll(ctx, keys, switching{"adopt", "already adopted", func(row *rule.Row, o *rule.Option, now time.Time) error {
		contested := o.Adopted() && row.Enabled
		if o.Adopted() && !contested {
			return nil
		}
		if then, ok := seen[o.Key]; ok && !then.Same(row) {
			return errors.New("somebody has changed its row meanwhile: run it again")
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

// Release gives rules back to the plugin, each in one transaction: its row gets the switch that its option has, and the option notes the
// time. A row that somebody has enabled for the plugin since it was adopted stays enabled, and the time noted is that of its change. A rule
// that is not adopted is left alone. Order, errors and the account are as with Adopt.
func (s *Store) Release(ctx context.Context, keys []rule.Key) ([]Switched, error) {
	return s.switchAll(ctx, keys, switching{"release", "not adopted", func(row *rule.Row, o *rule.Option, now time.Time) error {
		if !o.Adopted() {
			return nil
		}
		o.ReleasedAt = ownedUntil(row, o, now)
		if row.Enabled && o.ReleasedAt.Equal(row.Modified) {
			o.ReleasedAt = o.ReleasedAt.Add(time.Microsecond) // the same time says that a switch of ours was the row's last change
		}
		row.Enabled = row.Enabled || o.Enabled
		return nil
	}})
}

// ownedUntil returns until when an option says that its rule was the dispatcher's: now, if it still is. Nobody but the row's own time
// tells when a row was enabled that is adopted.
func ownedUntil(row *rule.Row, o *rule.Option, now time.Time) time.Time {
	switch {
	case !o.ReleasedAt.IsZero():
		return o.ReleasedAt
	case !row.Enabled || row.Modified.After(now):
		return now
	case !row.Modified.After(o.AdoptedAt): // not noted by whoever changed it, so it may have been just now
		return now
	}
	return row.Modified
}

// Former ownership periods of a rule are kept for events that are still in Kafka: in the lag of a group, and for replays from topics.
const (
	// keepEarlier is well above how long topics keep records by default, 7 days. A replay of older ones finds no rule for them.
	keepEarlier = 35 * 24 * time.Hour
	// maxEarlier is more than anybody switches in that time. Above it the two oldest become one: events of the time between them may come
	// twice, and none is lost.
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

// SetEnabled switches a rule on or off: in its option while it is adopted, else in the plugin's table, where its row's modified
// moves on as Django does it. An adopted rule whose row somebody has enabled for the plugin makes a *ContestedError. A rule that
// is not there makes a *NoRuleError. It needs an account that may UPDATE the plugin's tables.
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

// ContestedError says that both the dispatcher and the plugin have a rule: it is adopted, and somebody
// has enabled its row since. It has to be adopted again, or released, before it is switched.
type ContestedError struct{ Key rule.Key }

// Error implements error.
func (e *ContestedError) Error() string {
	return "it is adopted, and somebody has enabled its row for the plugin, too"
}

// switching is a change of a rule's switch and of whose the rule is.
type switching struct {
	verb   string
	stands string // how a rule stands that there is nothing to change of
	// decide changes the row's switch and the option. now is the database's time.
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

// switchTime bounds the time from when a switch is noted to when it is committed. Between the two the plugin still acts as before, and the
// dispatcher's ownership periods go by what was noted: rule.Skew must make up for that, beside the difference of clocks.
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

// one locks a rule's row and then its option, and changes them. Whoever locks both locks them in this order.
func (to switching) one(ctx context.Context, tx *sql.Tx, key rule.Key, table string) (result Switched, err error) {
	before, err := ruleOf(ctx, tx, key, " FOR UPDATE")
	if err != nil {
		return result, err
	}
	stored, err := lockOption(ctx, tx, key)
	if err != nil {
		return result, err
	}
	var now time.Time // after the locks, which may have been waited for
	if err := tx.QueryRowContext(ctx, "SELECT UTC_TIMESTAMP(6)").Scan(&now); err != nil {
		return result, err
	}
	noted := time.Now()
	now = now.Truncate(time.Microsecond) // the embedded database's clock is finer than asked for
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
