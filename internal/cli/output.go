package cli

import (
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"
)

// cell makes text from the database safe for one cell of a table: "-" for an empty text, and quoted
// if it could break the line or control a terminal.
func cell(text string) string {
	if text == "" {
		return "-"
	}
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
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

// moment writes a time as lists do: UTC with the milliseconds that the tables have, empty for none.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z07:00")
}

// counted returns a number followed by the singular or the plural.
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// printPairs writes a name and a value on each line.
func (p *Process) printPairs(pairs [][2]string) error {
	table := tabwriter.NewWriter(p.Stdout, 0, 0, 2, ' ', 0)
	for _, pair := range pairs {
		fmt.Fprintf(table, "%s\t%s\n", cell(pair[0]), cell(pair[1]))
	}
	return table.Flush()
}
