package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
)

// cell writes a value for one cell of a table.
func cell(value any) string {
	switch v := value.(type) {
	case bool:
		value = "no"
		if v {
			value = "yes"
		}
	case time.Time:
		value = moment(v)
	case *time.Time:
		value = ""
		if v != nil {
			value = moment(*v)
		}
	}
	return admin.Cell(fmt.Sprint(value))
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

// pairs are names, each followed by its value.
type pairs []any

// printDetail prints a view: as JSON, or a name and a value on each line.
func (p *Process) printDetail(asJSON bool, view any, lines pairs) error {
	if asJSON {
		return p.printJSON(view)
	}
	return printTable(p, "", slices.Collect(slices.Chunk(lines, 2)), func(line *pairs) []any { return *line })
}

// printList prints the views of a list: as JSON, or as a table.
func printList[V any](p *Process, asJSON bool, head string, list []V, cells func(*V) []any) error {
	if asJSON {
		return p.printJSON(list)
	}
	return printTable(p, head, list, cells)
}

// printTable writes the cells of each entry on a line, below a head if there is one.
func printTable[V any](p *Process, head string, list []V, cells func(*V) []any) error {
	table := tabwriter.NewWriter(p.Stdout, 0, 0, 2, ' ', 0)
	if head != "" {
		fmt.Fprintln(table, strings.ReplaceAll(head, ", ", "\t"))
	}
	for i := range list {
		var line []string
		for _, value := range cells(&list[i]) {
			line = append(line, cell(value))
		}
		fmt.Fprintln(table, strings.Join(line, "\t"))
	}
	return table.Flush()
}

// printJSON writes one JSON document. Characters such as & in URLs stay as they are.
func (p *Process) printJSON(document any) error {
	encoder := json.NewEncoder(p.Stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(document)
}

// note prints something besides the result.
func (p *Process) note(text string) {
	if text != "" {
		fmt.Fprintf(p.Stderr, "webhook-dispatcher: note: %s\n", text)
	}
}

// limitFlag bounds a list.
type limitFlag struct {
	Limit int `default:"100" placeholder:"N" help:"At most this many, up to 10000 (${default})."`
}

// noteMore says that a list goes on. It does so on stderr, because a program may read the list.
func (l limitFlag) noteMore(p *Process, more bool, narrower string) {
	if more {
		fmt.Fprintf(p.Stderr, "webhook-dispatcher: there are more than %d: raise --limit, or narrow the list with %s\n", l.Limit, narrower)
	}
}

// jsonFlag chooses how a command prints its result.
type jsonFlag struct {
	JSON bool `help:"Print one JSON document." name:"json"`
}
