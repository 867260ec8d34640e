// Package suggest helps with messages about wrong input: it finds the name that was probably meant,
// and shortens a text to what a message has room for.
package suggest

import "strings"

// Nearest returns the most similar of names, ignoring case, or "" if none is similar: at most a
// third of the letters and at most three may differ. Ties go to the first in alphabetical order.
func Nearest(name string, names []string) string {
	name = strings.ToLower(name)
	best, at := "", 1+min(3, len(name)/3)
	for _, candidate := range names {
		d := distance(name, strings.ToLower(candidate))
		if d < at || d == at && best != "" && candidate < best {
			best, at = candidate, d
		}
	}
	return best
}

// distance counts the insertions, deletions and replacements of bytes that turn a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1) // distances of the prefix of a so far to each prefix of b
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

// Clip shortens a text to at most so many characters, followed by an ellipsis if it was longer.
func Clip(text string, runes int) string {
	for i := range text {
		if runes == 0 {
			return text[:i] + "…"
		}
		runes--
	}
	return text
}

// DidYouMean returns "; did you mean NAME?" for the end of a sentence, with the nearest of names,
// or an empty text if none is near.
func DidYouMean(name string, names []string) string {
	if near := Nearest(name, names); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}
