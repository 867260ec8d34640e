package expression

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/itchyny/gojq"
)

// gojq's own regular expressions take time that grows with the square of the text, and with the
// pattern, whose repetitions are written out. What it has compiled it keeps for good, though patterns
// may come from events. So matching is done here: test, match, sub and the like are made of it in
// prelude.jq. The one difference: right behind a match, a pattern does not match nothing once more.

const (
	maxPatterns = 64      // kept
	maxMatches  = 100_000 // of one pattern in one text, times the groups of the pattern
	maxPattern  = 10_000  // bytes of a pattern, and its places with its repetitions written out: see size
	// maxSearch bounds bytes of text times places of the pattern, which is what one search may take:
	// 0.4 to 0.7 s at worst.
	maxSearch = 1 << 25
	// firstMatches is how many matches are looked for before the clock is looked at. Each may cost a
	// search to the end of the text (x*y|x, where there is no y), and there is no going on from one, so
	// that the next look is for several times as many.
	firstMatches, moreMatches = 4, 4
	maxFind                   = 4 * MaxTime // how long the search goes on
)

// patterns are the regular expressions that a program compiled last. It is safe for concurrent use.
type patterns struct {
	mu    sync.Mutex
	known map[[2]string]*pattern
}

type pattern struct {
	*regexp.Regexp

	places int
}

func (p *patterns) compile(text, flags string) (*pattern, error) {
	key := [2]string{text, flags}
	p.mu.Lock()
	known := p.known[key]
	p.mu.Unlock()
	if known != nil {
		return known, nil
	}
	if i := strings.IndexFunc(flags, func(r rune) bool { return r != 'g' && r != 'i' && r != 'm' }); i >= 0 {
		return nil, fmt.Errorf("the flags %q are not some of g, i and m", flags)
	}
	if len(text) > maxPattern {
		return nil, fmt.Errorf("a regular expression has %d bytes: more than %d", len(text), maxPattern)
	}
	if strings.Contains(flags, "i") {
		text = "(?i)" + text
	}
	if strings.Contains(flags, "m") { // as in jq: a dot matches a newline, too
		text = "(?s)" + text
	}
	tree, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, err
	}
	places := size(tree)
	if places > maxPattern {
		return nil, fmt.Errorf("a regular expression has %d places with its repetitions written out: more than %d",
			places, maxPattern)
	}
	r, err := regexp.Compile(text)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil || len(p.known) >= maxPatterns {
		p.known = make(map[[2]string]*pattern)
	}
	known = &pattern{r, places}
	p.known[key] = known
	return known, nil
}

// size returns how many places a pattern has at which a search may be at once. What is repeated is
// compiled as often.
func size(tree *syntax.Regexp) int {
	places := 1
	switch tree.Op {
	case syntax.OpLiteral:
		places = len(tree.Rune)
	case syntax.OpConcat, syntax.OpCapture, syntax.OpRepeat:
		places = 0
	default:
	}
	for _, sub := range tree.Sub {
		places += size(sub)
	}
	if tree.Op == syntax.OpRepeat {
		places *= max(1, tree.Min, tree.Max)
	}
	return places
}

// findAll is _find_all(pattern; flags; testing): the matches, or whether there is one.
func (p *patterns) findAll(v any, args []any) any {
	text, isText := v.(string)
	expression, isPattern := args[0].(string)
	flags, isFlags := args[1].(string)
	if !isText || !isPattern || !isFlags && args[1] != nil {
		return fmt.Errorf("a regular expression needs texts, and cannot be applied to: %s (%s)",
			gojq.TypeOf(v), gojq.Preview(v))
	}
	r, err := p.compile(expression, flags)
	if err != nil {
		return err
	}
	if len(text)*r.places > maxSearch {
		return fmt.Errorf("a regular expression of %d places is too much for a text of %d bytes: shorten one of them",
			r.places, len(text))
	}
	if args[2] == true {
		return r.MatchString(text)
	}
	limit := 1
	if strings.Contains(flags, "g") {
		limit = maxMatches/(1+r.NumSubexp()) + 1
	}
	found, err := r.all(text, limit)
	if err != nil {
		return err
	}
	if limit > 1 && len(found) == limit {
		return fmt.Errorf("the regular expression matches more than %d times", limit-1)
	}
	names := r.SubexpNames()
	matches := make([]any, len(found))
	passed, runes := 0, 0 // bytes of the text, and the characters that they are
	for i, at := range found {
		runes += utf8.RuneCountInString(text[passed:at[0]])
		passed = at[0]
		captures := make([]any, len(names)-1)
		for j := range captures {
			captures[j] = piece(text, at[0], runes, at[2*j+2], at[2*j+3])
			captures[j].(map[string]any)["name"] = nil
			if name := names[j+1]; name != "" {
				captures[j].(map[string]any)["name"] = name
			}
		}
		match := piece(text, at[0], runes, at[0], at[1])
		match["captures"] = captures
		matches[i] = match
	}
	return matches
}

// all returns up to limit matches, or ErrTooLong.
func (p *pattern) all(text string, limit int) ([][]int, error) {
	begin := time.Now()
	for n := firstMatches; n < limit; n *= moreMatches {
		if found := p.FindAllStringSubmatchIndex(text, n); len(found) < n {
			return found, nil
		}
		if time.Since(begin) > maxFind {
			return nil, ErrTooLong
		}
	}
	return p.FindAllStringSubmatchIndex(text, limit), nil
}

// piece describes text[begin:end], which is within a match that begins at byte `at`, the character
// number `runes`. One that took no part in the match has begin -1.
func piece(text string, at, runes, begin, end int) map[string]any {
	if begin < 0 {
		return map[string]any{"offset": -1, "length": 0, "string": nil}
	}
	return map[string]any{
		"offset": runes + utf8.RuneCountInString(text[at:begin]),
		"length": utf8.RuneCountInString(text[begin:end]),
		"string": text[begin:end],
	}
}
