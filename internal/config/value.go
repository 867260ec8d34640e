package config

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/egress"
)

// listSeparator stands between the items of a list.
const listSeparator = ","

// setValue reads text into a field of Config. An item that cannot be read leaves the field as it was; the error says what to write.
func setValue(target reflect.Value, tag tags, text string) error {
	switch field := target.Addr().Interface().(type) {
	case *string:
		text = strings.TrimSpace(text)
		if choices := tag.Get("choice"); choices != "" {
			return setChoice(field, choices, text)
		}
		*field = text
	case *Secret:
		*field = Secret(text)
	case *int:
		n, err := parseRange(tag, text, strconv.Atoi, "a whole number")
		if err != nil {
			return err
		}
		*field = n
	case *float64:
		n, err := parseRange(tag, text, parseFloat, "a number, such as 20 or 0.5")
		if err != nil {
			return err
		}
		*field = n
	case *bool:
		b, err := parseBool(text)
		if err != nil {
			return err
		}
		*field = b
	case *Size:
		n, err := parseRange(tag, text, ParseSize, "a number of bytes with a unit, such as 32MiB")
		if err != nil {
			return err
		}
		*field = n
	case *time.Duration:
		d, err := parseRange(tag, text, ParseDuration, "a number with a unit, such as 10s, 5m, 2h or 14d")
		if err != nil {
			return err
		}
		*field = d
	case *[]string:
		return appendItems(field, text, func(item string) (string, error) { return item, nil })
	case *[]time.Duration:
		return appendItems(field, text, parseDelay)
	case *[]netip.Prefix:
		return appendItems(field, text, egress.ParsePrefix)
	default:
		return fmt.Errorf("no setting can be of type %s", target.Type())
	}
	return nil
}

// tags is what a struct tag or a parsed one of the command line offers.
type tags interface{ Get(key string) string }

func setChoice(field *string, choices, text string) error {
	for choice := range strings.SplitSeq(choices, listSeparator) {
		if strings.EqualFold(choice, text) {
			*field = choice
			return nil
		}
	}
	return fmt.Errorf("write one of %s", strings.ReplaceAll(choices, listSeparator, ", "))
}

// parseRange reads a value that the tags min and max bound.
func parseRange[T int | float64 | Size | time.Duration](tag tags, text string, parse func(string) (T, error), want string) (T, error) {
	v, err := parse(strings.TrimSpace(text))
	if err != nil {
		return 0, fmt.Errorf("write %s", want)
	}
	for _, bound := range [...]struct {
		name  string
		broke func(limit T) bool
	}{
		{"min", func(limit T) bool { return v < limit }},
		{"max", func(limit T) bool { return v > limit }},
	} {
		limit, err := parse(tag.Get(bound.name))
		if err == nil && bound.broke(limit) {
			return 0, fmt.Errorf("write a value from %s to %s", tag.Get("min"), tag.Get("max"))
		}
	}
	return v, nil
}

// parseFloat reads a number; ParseFloat takes NaN and Inf as well, which no bound would keep out.
func parseFloat(text string) (float64, error) {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
		return 0, fmt.Errorf("%q is no number", text)
	}
	return n, nil
}

func parseBool(text string) (bool, error) {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "true", "yes", "on", "1":
		return true, nil
	case "false", "no", "off", "0":
		return false, nil
	}
	return false, errors.New("write true or false")
}

// appendItems adds the items of a list; a flag that is given twice adds to the first.
func appendItems[T any](field *[]T, text string, parse func(string) (T, error)) error {
	var items []T
	for item := range strings.SplitSeq(text, listSeparator) {
		item = strings.TrimSpace(item)
		if item == "" {
			if strings.TrimSpace(text) == "" {
				return nil
			}
			return errors.New("has an empty item: remove the comma that is too many")
		}
		v, err := parse(item)
		if err != nil {
			return err
		}
		items = append(items, v)
	}
	*field = append(*field, items...)
	return nil
}

func parseDelay(item string) (time.Duration, error) {
	d, err := ParseDuration(item)
	if err != nil {
		return 0, fmt.Errorf("%q is no duration: write each delay with a unit, such as 5s,5m,2h", item)
	}
	if d <= 0 || d > delivery.MaxRetryDelay {
		return 0, fmt.Errorf("the delay %q is out of range: write delays above 0s and up to 11d", item)
	}
	return d, nil
}

// ParseDuration reads a duration as time.ParseDuration does, and besides knows d, a day of 24 hours, as the first unit.
func ParseDuration(text string) (time.Duration, error) {
	days, rest, found := strings.Cut(text, "d")
	if !found {
		d, err := time.ParseDuration(text)
		if err != nil || strings.Trim(text, "+-0123456789.") == "" {
			return 0, fmt.Errorf("%q is no duration with a unit, such as 5s", text)
		}
		return d, nil
	}
	n, err := strconv.ParseUint(days, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%q is no duration with a unit, such as 5s", text)
	}
	total := time.Duration(n) * 24 * time.Hour
	if rest == "" {
		return total, nil
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is no duration with a unit, such as 5s", text)
	}
	return total + d, nil
}

// ParseSize reads a number of bytes: digits with the unit B, KiB, MiB, GiB or TiB. A unit is asked for because 32 is
// never meant.
func ParseSize(text string) (Size, error) {
	units := [...]string{"B", "KiB", "MiB", "GiB", "TiB"}
	for i := len(units) - 1; i >= 0; i-- {
		digits, found := strings.CutSuffix(text, units[i])
		if !found {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 63)
		if err != nil || n > (1<<63-1)>>(10*i) {
			return 0, fmt.Errorf("%q is no size", text)
		}
		return Size(n << (10 * i)), nil
	}
	return 0, fmt.Errorf("%q is a size without a unit", text)
}
