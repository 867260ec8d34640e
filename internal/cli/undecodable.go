package cli

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/suggest"
)

type undecodableListCommand struct {
	config.Database
	limitFlag
	reasonFlag

	JSON bool `help:"Print one JSON document." name:"json"`
}

// reasonFlag chooses records.
type reasonFlag struct {
	Reason string `placeholder:"REASON" help:"Only records kept for this reason, such as unknown_schema."`
}

// check refuses a reason that no record can have: the answer would look as if there were none.
func (f reasonFlag) check() error {
	known := make([]string, 0, len(decode.Reasons()))
	for _, reason := range decode.Reasons() {
		known = append(known, string(reason))
	}
	if f.Reason == "" || slices.Contains(known, f.Reason) {
		return nil
	}
	return usagef("--reason: unknown reason %q: write one of %s", suggest.Clip(f.Reason, maxWord), strings.Join(known, ", "))
}

type undecodableShowCommand struct {
	config.Database

	ID    uint64 `arg:"" help:"The record's id of undecodable list."`
	Value bool   `help:"Also show key and value, as base64; they hold learners' data."`
	JSON  bool   `help:"Print one JSON document." name:"json"`
}

// recordView is an undecodable record as lists show it.
type recordView struct {
	ID        uint64    `json:"id"`
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	Time      time.Time `json:"time"`
	Reason    string    `json:"reason"`
	ValueSize int64     `json:"value_size"` // bytes on the bus
	CreatedAt time.Time `json:"created_at"`
}

func viewRecord(r *store.KeptRecord) recordView {
	return recordView{
		ID: r.RowID, Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Time: r.Time, Reason: r.Reason, ValueSize: r.ValueSize,
		CreatedAt: r.CreatedAt,
	}
}

// Run lists records.
func (c *undecodableListCommand) Run(ctx context.Context, s *session) error {
	if err := errors.Join(c.limitFlag.check(), c.reasonFlag.check(), s.settings(ctx, &c.Database)); err != nil {
		return err
	}
	var found []store.KeptRecord
	var more bool
	err := s.withStore(&c.Database, func(st *store.Store) error {
		var err error
		found, more, err = st.ListUndecodable(ctx, c.Reason, c.Limit)
		return err
	})
	if err != nil {
		return err
	}
	views := make([]recordView, len(found))
	for i := range found {
		views[i] = viewRecord(&found[i])
	}
	c.noteMore(s.Process, more, "--reason")
	if c.JSON {
		return s.printJSON(views)
	}
	table := tabwriter.NewWriter(s.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tTOPIC\tPARTITION\tOFFSET\tTIME\tREASON\tVALUE SIZE\tKEPT")
	for _, v := range views {
		fmt.Fprintf(table, "%d\t%s\t%d\t%d\t%s\t%s\t%d\t%s\n", v.ID, cell(v.Topic), v.Partition, v.Offset, moment(v.Time), cell(v.Reason),
			v.ValueSize, moment(v.CreatedAt))
	}
	return table.Flush()
}

// shownRecord is a record with its headers.
type shownRecord struct {
	recordView

	KeySize   int                  `json:"key_size"`   // bytes kept
	ValueKept int                  `json:"value_kept"` // bytes; less than value_size where the value was cut
	Headers   []store.RecordHeader `json:"headers"`    // values as base64
	*recordContent
}

// recordContent is shown only if asked for. Null stands for a record without a key, or a tombstone.
type recordContent struct {
	Key   []byte `json:"key"`
	Value []byte `json:"value"`
}

// Run shows one record.
func (c *undecodableShowCommand) Run(ctx context.Context, s *session) error {
	if err := s.settings(ctx, &c.Database); err != nil {
		return err
	}
	var record store.KeptRecord
	err := s.withStore(&c.Database, func(st *store.Store) error {
		found, ok, err := st.UndecodableRow(ctx, c.ID)
		if err == nil && !ok {
			err = fmt.Errorf("there is no undecodable record %d; see undecodable list", c.ID)
		}
		record = found
		return err
	})
	if err != nil {
		return err
	}
	shown := shownRecord{
		recordView: viewRecord(&record), KeySize: len(record.Key), ValueKept: len(record.Value), Headers: record.Headers,
	}
	if c.Value {
		shown.recordContent = &recordContent{Key: record.Key, Value: record.Value}
	}
	if c.JSON {
		return s.printJSON(shown)
	}
	return s.printRecord(&shown)
}

func (p *Process) printRecord(v *shownRecord) error {
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
	if v.recordContent != nil {
		pairs = append(pairs,
			[2]string{"key as base64", base64.StdEncoding.EncodeToString(v.Key)},
			[2]string{"value as base64", base64.StdEncoding.EncodeToString(v.Value)})
	}
	return p.printPairs(pairs)
}
