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

// listSeparator separates the items of a list.
const listSeparator = ","

// setValue reads text into a field of Config. On error the field is unchanged, and the error says
// what to write.
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
		return setRange(field, tag, text, strconv.Atoi, "a whole number")
	case *float64:
		return setRange(field, tag, text, parseFloat, "a number, such as 20 or 0.5")
	case *bool:
		return setBool(field, text)
	case *Size:
		return setRange(field, tag, text, ParseSize, "a number of bytes with a unit, such as 32MiB")
	case *time.Duration:
		return setRange(field, tag, text, ParseDuration, "a number with a unit, such as 10s, 5m, 2h or 14d")
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

// tags is a struct tag, or one parsed by kong.
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

// setRange reads a value bounded by the tags min and max.
func setRange[T int | float64 | Size | time.Duration](
	field *T, tag tags, text string, parse func(string) (T, error), want string,
) error {
	v, err := parse(strings.TrimSpace(text))
	if err != nil {
		return fmt.Errorf("write %s", want)
	}
	least, noLeast := parse(tag.Get("min"))
	most, noMost := parse(tag.Get("max"))
	if noLeast == nil && v < least || noMost == nil && v > most {
		return fmt.Errorf("write a value from %s to %s", tag.Get("min"), tag.Get("max"))
	}
	*field = v
	return nil
}

// parseFloat reads a number. It rejects NaN and Inf, which pass every bound.
func parseFloat(text string) (float64, error) {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
		return 0, fmt.Errorf("%q is not a number", text)
	}
	return n, nil
}

func setBool(field *bool, text string) error {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "true", "yes", "on", "1":
		*field = true
	case "false", "no", "off", "0":
		*field = false
	default:
		return errors.New("write true or false")
	}
	return nil
}

// appendItems appends a list's items; a repeated flag adds to the list.
func appendItems[T any](field *[]T, text string, parse func(string) (T, error)) error {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	var items []T
	for item := range strings.SplitSeq(text, listSeparator) {
		if item = strings.TrimSpace(item); item == "" {
			return errors.New("has an empty item: remove the extra comma")
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
		return 0, fmt.Errorf("%q is not a duration: write each delay with a unit, such as 5s,5m,2h", item)
	}
	if d <= 0 || d > delivery.MaxRetryDelay {
		return 0, fmt.Errorf("the delay %q is out of range: write delays above 0s and up to 11d", item)
	}
	return d, nil
}

// ParseDuration reads a duration like time.ParseDuration, and accepts d, a day of 24 hours, as the
// first unit.
func ParseDuration(text string) (time.Duration, error) {
	fault := fmt.Errorf("%q is not a duration with a unit, such as 5s", text)
	hours := text
	if days, rest, found := strings.Cut(text, "d"); found {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return 0, fault
		}
		hours = fmt.Sprintf("%dh%s", 24*n, rest)
	}
	d, err := time.ParseDuration(hours)
	if err != nil || strings.Trim(text, "+-0123456789.") == "" {
		return 0, fault
	}
	return d, nil
}

// ParseSize reads a number of bytes with the unit B, KiB, MiB, GiB or TiB. The unit is required
// because a bare 32 is always a mistake.
func ParseSize(text string) (Size, error) {
	units := [...]string{"B", "KiB", "MiB", "GiB", "TiB"}
	for i := len(units) - 1; i >= 0; i-- {
		digits, found := strings.CutSuffix(text, units[i])
		if !found {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 63)
		if err != nil || n > (1<<63-1)>>(10*i) {
			return 0, fmt.Errorf("%q is not a size", text)
		}
		return Size(n << (10 * i)), nil
	}
	return 0, fmt.Errorf("%q is a size without a unit", text)
}
