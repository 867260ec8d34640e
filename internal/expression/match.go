package expression

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/itchyny/gojq"
)

// gojq's own regular expressions take time that grows with the square of the text, within a single step that no deadline ends: one gsub
// over 100 kB takes seconds. And what it has compiled it keeps for good, though patterns may come from events. So the functions that
// use them stand here again, on top of findAll. What they do is the same, but for a pattern that can match nothing: right behind a
// match it does not match nothing once more.

// matchers are the functions of jq that matching defines.
var matchers = map[string]bool{
	"test": true, "match": true, "capture": true, "scan": true, "split": true, "splits": true, "sub": true, "gsub": true,
}

const findAll = "_find_all" // (pattern; flags; testing): the matches, or whether there is one

// matching is from the definitions of gojq. Unlike there, a function must stand before those that use it.
const matching = `
def match($re; $flags): ` + findAll + `($re; $flags; false)[];
def match($re): if $re | type == "array" then match($re[0]; $re[1]) else match($re; null) end;
def test($re; $flags): ` + findAll + `($re; $flags; true);
def test($re): if $re | type == "array" then test($re[0]; $re[1]) else test($re; null) end;
def capture($re; $flags):
  match($re; $flags) | reduce (.captures[] | select(.name != null)) as {$name, $string} ({}; .[$name] = $string);
def capture($re): if $re | type == "array" then capture($re[0]; $re[1]) else capture($re; null) end;
def scan($re; $flags): match($re; $flags + "g") | if .captures == [] then .string else [.captures[].string] end;
def scan($re): scan($re; null);
def splits($re; $flags):
  .[foreach (match($re; $flags + "g"), null) as {$offset, $length}
      (null; {start: .next, end: $offset, next: $offset + $length})];
def splits($re): splits($re; null);
def split($re; $flags): [splits($re; $flags)];
def sub($re; str; $flags):
  reduce match($re; $flags) as {$offset, $length, $captures}
    ({s: ., r: []};
      reduce (reduce ($captures[] | select(.name != null)) as {$name, $string} ({}; .[$name] = $string) | str) as $s
        (.i = 0; .r[.i] += .s[.next:$offset] + $s | .i += 1) |
      .next = $offset + $length) | .r[] + .s[.next:] // .s;
def sub($re; str): sub($re; str; null);
def gsub($re; str; $flags): sub($re; str; $flags + "g");
def gsub($re; str): gsub($re; str; "");
.`

const (
	maxPatterns = 64      // kept
	maxMatches  = 100_000 // of one pattern in one text
)

// patterns are the regular expressions that a program has compiled, the last ones at least. It is safe for concurrent use.
type patterns struct {
	mu    sync.Mutex
	known map[[2]string]*regexp.Regexp
}

func (p *patterns) compile(pattern, flags string) (*regexp.Regexp, error) {
	key := [2]string{pattern, flags}
	p.mu.Lock()
	r := p.known[key]
	p.mu.Unlock()
	if r != nil {
		return r, nil
	}
	if i := strings.IndexFunc(flags, func(r rune) bool { return r != 'g' && r != 'i' && r != 'm' }); i >= 0 {
		return nil, fmt.Errorf("the flags %q are not some of g, i and m", flags)
	}
	if strings.Contains(flags, "i") {
		pattern = "(?i)" + pattern
	}
	if strings.Contains(flags, "m") { // as in jq: a dot matches a newline, too
		pattern = "(?s)" + pattern
	}
	r, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil || len(p.known) >= maxPatterns {
		p.known = make(map[[2]string]*regexp.Regexp)
	}
	p.known[key] = r
	return r, nil
}

// findAll is the function that matching is made of.
func (p *patterns) findAll(v any, args []any) any {
	text, isText := v.(string)
	pattern, isPattern := args[0].(string)
	flags, isFlags := args[1].(string)
	if !isText || !isPattern || !isFlags && args[1] != nil {
		return fmt.Errorf("a regular expression needs texts, and cannot be applied to: %s (%s)", gojq.TypeOf(v), gojq.Preview(v))
	}
	r, err := p.compile(pattern, flags)
	if err != nil {
		return err
	}
	if args[2] == true {
		return r.MatchString(text)
	}
	limit := 1
	if strings.Contains(flags, "g") {
		limit = maxMatches + 1
	}
	found := r.FindAllStringSubmatchIndex(text, limit)
	if len(found) > maxMatches {
		return fmt.Errorf("the regular expression matches more than %d times", maxMatches)
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

// piece describes text[begin:end], which is within a match that begins at byte `at`, the character number `runes`. One that took no
// part in the match has begin -1.
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
