package cli

import (
	"strconv"
	"strings"
	"unicode"
)

// cell makes text from the database safe for one cell of a table on a terminal: "-" for nothing, and quoted if it holds what
// could break the line or drive the terminal.
func cell(text string) string {
	if text == "" {
		return "-"
	}
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
