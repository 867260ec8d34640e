package expression

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/itchyny/gojq"
)

// gojq's own matching takes time that grows with the square of the text, and it keeps all that it
// has compiled, though patterns may come from events. So test, match, sub and the like are made of
// ours in prelude.jq. One thing differs: right behind a match, a pattern does not match nothing.
const (
	maxPatterns = 64      // kept
	maxPattern  = 10_000  // bytes of a pattern, and its places: see compile
	maxMatches  = 100_000 // of one pattern in one text, times the groups of the pattern
	maxSearch   = 1 << 25 // bytes of text times places, for one search: 0.4 to 0.7 s at worst
	maxFind     = 4 * MaxTime
)

// patterns are the regular expressions that a program compiled last. It is safe for concurrent use.
type patterns struct {
	known sync.Map // of [2]string{pattern, flags}
	count atomic.Int64
}

type pattern struct {
	*regexp.Regexp

	places int // where a search may be at once: the instructions, with repetitions written out
}

func (p *patterns) compile(text, flags string) (*pattern, error) {
	key := [2]string{text, flags}
	if known, ok := p.known.Load(key); ok {
		return known.(*pattern), nil
	}
	if strings.Trim(flags, "gim") != "" {
		return nil, fmt.Errorf("the flags %q are not some of g, i and m", flags)
	}
	// As in jq, m lets a dot match a newline, too.
	text = strings.NewReplacer("g", "", "i", "(?i)", "m", "(?s)").Replace(flags) + text
	if len(text) > maxPattern {
		return nil, fmt.Errorf("a regular expression has %d bytes: more than %d", len(text), maxPattern)
	}
	tree, err := syntax.Parse(text, syntax.Perl) // which refuses what takes more than 128 MiB
	if err != nil {
		return nil, err
	}
	program, _ := syntax.Compile(tree.Simplify()) // which does not fail
	places := len(program.Inst)
	if places > maxPattern {
		return nil, fmt.Errorf("a regular expression has %d places with its repetitions written out: more than %d", places, maxPattern)
	}
	if p.count.Add(1) > maxPatterns {
		p.known.Clear()
		p.count.Store(1)
	}
	made := &pattern{regexp.MustCompile(text), places}
	p.known.Store(key, made)
	return made, nil
}

// findAll is _find_all(pattern; flags; testing): the matches, or whether there is one.
func (p *patterns) findAll(v any, args []any) any {
	text, isText := v.(string)
	expression, isPattern := args[0].(string)
	flags, isFlags := args[1].(string)
	if !isText || !isPattern || !isFlags && args[1] != nil {
		return fmt.Errorf("a regular expression needs texts, and cannot be applied to: %s (%s)", gojq.TypeOf(v), gojq.Preview(v))
	}
	r, err := p.compile(expression, flags)
	switch {
	case err != nil:
		return err
	case len(text)*r.places > maxSearch:
		return fmt.Errorf("a regular expression of %d places is too much for a text of %d bytes: shorten one of them", r.places, len(text))
	case args[2] == true:
		return r.MatchString(text)
	}
	limit := 1
	if strings.Contains(flags, "g") {
		limit = maxMatches/(1+r.NumSubexp()) + 1
	}
	// Each match may cost a search to the end of the text (x*y|x, where there is no y). So few are
	// looked for before the clock is looked at, and then several times as many, all of them again.
	var found [][]int
	for n, begin := 4, time.Now(); ; n *= 4 {
		if found = r.FindAllStringSubmatchIndex(text, min(n, limit)); len(found) < n {
			break
		}
		if time.Since(begin) > maxFind {
			return ErrTooLong
		}
	}
	if limit > 1 && len(found) == limit {
		return fmt.Errorf("the regular expression matches more than %d times", limit-1)
	}
	matches, names := make([]any, len(found)), r.SubexpNames()
	passed, runes := 0, 0 // bytes of the text, and the characters that they are
	for i, at := range found {
		runes += utf8.RuneCountInString(text[passed:at[0]])
		passed = at[0]
		groups := make([]any, len(names))
		for j, name := range names {
			group := map[string]any{"name": nil, "offset": -1, "length": 0, "string": nil}
			if name != "" {
				group["name"] = name
			}
			if begin, end := at[2*j], at[2*j+1]; begin >= 0 { // else it took no part in the match
				group["offset"] = runes + utf8.RuneCountInString(text[passed:begin])
				group["length"] = utf8.RuneCountInString(text[begin:end])
				group["string"] = text[begin:end]
			}
			groups[j] = group
		}
		match := groups[0].(map[string]any)
		delete(match, "name")
		match["captures"], matches[i] = groups[1:], match
	}
	return matches
}
