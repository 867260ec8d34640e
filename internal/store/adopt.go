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

// Switched is the state of a rule that was to be adopted, released, enabled or disabled.
type Switched struct {
	Key     rule.Key
	Changed bool   // whether anything was changed
	Why     string // how the rule was already, if not
	Adopted bool   // the rule is now the dispatcher's, else it is the plugin's
	Enabled bool   // its switch there
}

// Adopt hands rules to the dispatcher, each in one transaction: it switches off the plugin's row,
// and notes in the option how the switch was, and the time. An earlier adoption is kept among the
// ownership periods of the option's document. A rule that is adopted already stays as it is, unless
// somebody has since enabled its row for the plugin: then it is taken back, enabled.
//
// It takes the rules in the order of their keys and returns those it reached. A missing rule
// (*NoRuleError) or one whose options cannot be read does not hold up the others; such errors are
// joined. Any other error ends it: what was switched before stays, and a second call goes on. The
// account needs UPDATE on the plugin's tables.
//
// seen has rows as the caller saw them: one that has changed since is left alone, with an error,
// because daemons may not know the change yet, and so not that an event may wait for the adoption.
// Rows that are not in seen are adopted as they are.
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

// Release gives rules back to the plugin, each in one transaction: the row gets the option's switch,
// and the option notes the time. A row that somebody has enabled for the plugin since it was adopted
// stays enabled, and the time noted is that of this change. A rule that is not adopted stays as it
// is. For order, errors and the account see Adopt.
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

// ownedUntil returns until when the rule of an option was the dispatcher's: now, if it still is.
// Only the row's own time says when somebody enabled the row of an adopted rule.
func ownedUntil(row *rule.Row, o *rule.Option, now time.Time) time.Time {
	switch {
	case !o.ReleasedAt.IsZero():
		return o.ReleasedAt
	case !row.Enabled || row.Modified.After(now):
		return now
	case !row.Modified.After(o.AdoptedAt): // the change left no time, so it may have been just now
		return now
	}
	return row.Modified
}

// Earlier ownership periods of a rule are kept for events that are still in Kafka: those that a group
// has yet to consume, and replays from topics. Above maxEarlier the two oldest become one: events of
// the time between them may come twice, and none is lost.
const (
	keepEarlier = 35 * 24 * time.Hour // well above the default retention of topics, 7 days
	maxEarlier  = 16
)

// withEarlier adds an earlier ownership period to a document of options.
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
	verb := "disable"
	if on {
		verb = "enable"
	}
	return s.switchRule(ctx, key, switching{verb, "already " + verb + "d", func(row *rule.Row, o *rule.Option, _ time.Time) error {
		switch {
		case !o.Adopted():
			row.Enabled = on
		case row.Enabled:
			return &ContestedError{key}
		default:
			o.Enabled = on
		}
		return nil
	}})
}

// ContestedError says that both the dispatcher and the plugin have a rule: it is adopted, and
// somebody has enabled its row since. Before it is switched it must be adopted again, or released.
type ContestedError struct{ Key rule.Key }

// Error implements error.
func (e *ContestedError) Error() string {
	return "it is adopted, and somebody has enabled its row for the plugin, too"
}

// switching is a change of a rule's switch and of who has the rule.
type switching struct {
	verb string
	why  string // how a rule is that needs no change
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

// switchTime bounds the time from when a switch is noted to when it is committed. In between the
// plugin still acts as before, but the dispatcher's ownership periods follow what was noted:
// rule.Skew must cover that, in addition to the difference of clocks.
const switchTime = 10 * time.Second

// switchRule locks a rule's row and then its option, in this order everywhere, and changes them.
func (s *Store) switchRule(ctx context.Context, key rule.Key, to switching) (Switched, error) {
	table, err := ruleTable(key)
	if err != nil {
		return Switched{}, fmt.Errorf("%s: %w", to.verb, err)
	}
	return transaction(ctx, s, to.verb+" "+key.String(), func(tx *sql.Tx) (result Switched, err error) {
		before, err := s.ruleOf(ctx, tx, key, true)
		if err != nil {
			return result, err
		}
		stored, err := lockOption(ctx, tx, key)
		if err != nil {
			return result, err
		}
		at, err := now(ctx, tx, time.Microsecond) // after the locks, which may take time
		if err != nil {
			return result, err
		}
		noted := time.Now()
		row := before
		result = Switched{Key: key}
		result.Changed, err = writeChange(ctx, tx, stored, key, &before, func(o *rule.Option) error {
			if err := to.decide(&row, o, at); err != nil {
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
			if _, err := tx.ExecContext(ctx, "UPDATE "+table+" SET enabled = ?, modified = ? WHERE id = ?", row.Enabled, at, key.ID); err != nil {
				return result, err
			}
		}
		if !result.Changed {
			result.Why = to.why
		}
		if took := time.Since(noted); took > switchTime {
			return result, fmt.Errorf("it took %s, so nothing was changed: run it again", took.Round(time.Second))
		}
		return result, nil
	})
}
