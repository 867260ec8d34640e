package queue

import (
	"context"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/backoff"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// refusedEvery is how often rows that the database takes in no form are offered to it again.
const refusedEvery = time.Minute

// reject takes the rows that the database refuses for good out of those that it took, and offers less of them: without its body and
// with its texts cut almost any row fits, and without any text of others nothing is left in it that a column could refuse. A row that
// is refused even so, by a table that is not as it should be, is kept here and its event unreleased: releasing it would be losing it.
func (w *Writer) reject(ctx context.Context, batch []parking, err *delivery.RejectedError) (stored []parking) {
	refused := make(map[int]bool, len(err.Rows))
	for _, r := range err.Rows {
		refused[r.Index] = true
	}
	newest, count := delivery.ID{}, 0
	for i, p := range batch {
		if !refused[i] {
			stored = append(stored, p)
			continue
		}
		if p.form == rowWhole {
			w.metrics.rejected.Inc()
		}
		if p.form == rowKey {
			newest, count = p.insert.ID, count+1
			w.hold(p)
			continue
		}
		p.form++
		p.insert = reduced(p)
		w.rows.add(p)
	}
	if count > 0 {
		w.unlogged += count
		w.refusals.Do(func() {
			w.logger.ErrorContext(ctx, "the database refuses deliveries in any form; their events are not released and their partitions stand still",
				"webhook_id", newest.String(), "error", err, "count", w.unlogged)
			w.unlogged = 0
		})
	}
	return stored
}

// reduced returns the row as p's form says.
func reduced(p parking) delivery.Insert {
	in := delivery.DeadLetter(&p.insert.Delivery, p.insert.Attempts, p.insert.LastStatus)
	if p.insert.State == delivery.Dead {
		in.Reason = p.insert.Reason // it was dead for another reason before
	}
	in.EventType, in.EventID = delivery.Cut(in.EventType, delivery.MaxText), delivery.Cut(in.EventID, delivery.MaxText)
	if p.form == rowKey {
		in.EventType, in.EventID, in.EventTime, in.Traceparent = "", "", time.Time{}, ""
	}
	return in
}

// refusal is a row that the database takes in no form.
type refusal struct {
	row     parking
	offered bool // again, without an answer so far
}

func (w *Writer) hold(p parking) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refused[p.insert.ID] = refusal{row: p}
	w.metrics.refused.Set(float64(len(w.refused)))
}

// forget lets go of a row that is stored after all, or no longer wanted.
func (w *Writer) forget(p parking) {
	if p.form != rowKey {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.refused, p.insert.ID)
	w.metrics.refused.Set(float64(len(w.refused)))
}

// offerAgain offers the refused rows to the database until ctx ends: somebody may have mended it, and who read the event may have lost its
// partition.
func (w *Writer) offerAgain(ctx context.Context) {
	for backoff.Sleep(ctx, refusedEvery) == nil {
		w.mu.Lock()
		for id, r := range w.refused {
			if !r.offered { // else it would be confirmed twice
				w.refused[id] = refusal{r.row, true}
				w.rows.add(r.row)
			}
		}
		w.mu.Unlock()
	}
}
