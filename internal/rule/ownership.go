package rule

import "time"

// Skew is how far the clocks of LMS and database may differ. Events so long before an adoption, or after a release, are sent by both.
const Skew = time.Minute

// owner is whose a row is: who sends its events now.
type owner uint8

const (
	dispatchers owner = iota
	released          // the plugin's by now
	contested         // adopted, and enabled for the plugin as well
	plugins           // never the dispatcher's
)

// ownership says whose a row is, and whether it is switched on. adopted is set where only adopted rows are rules.
//
// Where the enabled rows are rules, an adopted one is a rule as before: the plugin leaves it alone, and this is all that adopting
// changes. Where only adopted rows are, an adopted row's own switch is in its option, because the plugin's must be off; a released one's
// is the option's still, for the events of its time.
func ownership(row *Row, o *Option, adopted bool) (whose owner, on bool) {
	switch {
	case !adopted:
		return dispatchers, row.Enabled || o.Adopted() && o.Enabled
	case o == nil || o.AdoptedAt.IsZero():
		return plugins, row.Enabled
	case !o.ReleasedAt.IsZero():
		return released, o.Enabled
	case row.Enabled:
		return contested, o.Enabled
	}
	return dispatchers, o.Enabled
}

func (c *Compiler) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

// periods returns the ownership periods, in which events are the dispatcher's, nil for all times. Earlier are those of former adoptions.
func (c *Compiler) periods(row *Row, o *Option, earlier []OwnershipPeriod) []OwnershipPeriod {
	whose, _ := ownership(row, o, c.Adopted)
	if !c.Adopted || whose == plugins {
		return nil
	}
	now := OwnershipPeriod{From: o.AdoptedAt.Add(-Skew)}
	switch whose {
	case dispatchers, plugins:
	case released:
		now.Until = o.ReleasedAt.Add(Skew)
	case contested:
		// Django notes the time of a change. What changes rows without it leaves no trace of when, but it cannot be later than now.
		now.Until = row.Modified.Add(Skew)
		if !row.Modified.After(o.AdoptedAt) {
			now.Until = c.now().Add(Skew)
		}
	}
	periods := make([]OwnershipPeriod, 0, len(earlier)+1)
	for _, p := range earlier {
		p.From = p.From.Add(-Skew)
		if !p.Until.IsZero() {
			p.Until = p.Until.Add(Skew)
		}
		periods = append(periods, p)
	}
	return append(periods, now)
}
