package cli

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"text/tabwriter"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
)

type undecodableListCommand struct {
	config.Database
	limitFlag
	reasonFlag

	JSON bool `help:"Print one JSON document." name:"json"`
}

// reasonFlag selects records.
type reasonFlag struct {
	Reason string `placeholder:"REASON" help:"Only records kept for this reason, such as unknown_schema."`
}

type undecodableShowCommand struct {
	config.Database

	ID    uint64 `arg:"" help:"The record's id of undecodable list."`
	Value bool   `help:"Also show key and value, as base64; they hold learners' data."`
	JSON  bool   `help:"Print one JSON document." name:"json"`
}

// Run lists records.
func (c *undecodableListCommand) Run(ctx context.Context, s *session) error {
	if err := s.settings(ctx, &c.Database); err != nil {
		return err
	}
	var list *admin.UndecodableList
	err := s.withAdmin(&c.Database, admin.Options{}, func(a *admin.Admin) (err error) {
		list, err = a.Undecodable(ctx, c.Reason, c.Limit)
		return err
	})
	if err != nil {
		return err
	}
	c.noteMore(s.Process, list.More, "--reason")
	if c.JSON {
		return s.printJSON(list.Records)
	}
	table := tabwriter.NewWriter(s.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tTOPIC\tPARTITION\tOFFSET\tTIME\tREASON\tVALUE SIZE\tKEPT")
	for i := range list.Records {
		v := &list.Records[i]
		fmt.Fprintf(table, "%d\t%s\t%d\t%d\t%s\t%s\t%d\t%s\n", v.ID, cell(v.Topic), v.Partition, v.Offset, moment(v.Time), cell(v.Reason),
			v.ValueSize, moment(v.CreatedAt))
	}
	return table.Flush()
}

// Run shows one record.
func (c *undecodableShowCommand) Run(ctx context.Context, s *session) error {
	if err := s.settings(ctx, &c.Database); err != nil {
		return err
	}
	var detail *admin.RecordDetail
	err := s.withAdmin(&c.Database, admin.Options{}, func(a *admin.Admin) (err error) {
		detail, err = a.UndecodableRecord(ctx, c.ID, c.Value)
		return err
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return s.printJSON(detail)
	}
	return s.printRecord(detail)
}

func (p *Process) printRecord(v *admin.RecordDetail) error {
	pairs := [][2]string{
		{"id", strconv.FormatUint(v.ID, 10)},
		{"topic", v.Topic},
		{"partition", strconv.Itoa(int(v.Partition))},
		{"offset", strconv.FormatInt(v.Offset, 10)},
		{"time", moment(v.Time)},
		{"reason", v.Reason},
		{"key size", strconv.Itoa(v.KeySize)},
		{"value size", strconv.FormatInt(v.ValueSize, 10)},
		{"value kept", strconv.Itoa(v.ValueKept)},
		{"kept since", moment(v.CreatedAt)},
	}
	for _, h := range v.Headers {
		pairs = append(pairs, [2]string{"header " + h.Key, string(h.Value)})
	}
	if v.RecordContent != nil {
		pairs = append(pairs,
			[2]string{"key as base64", base64.StdEncoding.EncodeToString(v.Key)},
			[2]string{"value as base64", base64.StdEncoding.EncodeToString(v.Value)})
	}
	return p.printPairs(pairs)
}
