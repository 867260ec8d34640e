package queue

import (
	"context"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/backoff"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// refusedEvery is how often rows that the database refused in every form are retried.
const refusedEvery = time.Minute

// reject removes the refused rows from batch and queues each in its next smaller form. Without its
// body and with texts cut almost any row fits; without any foreign text no column should refuse it.
// A row refused even then (the table is not as it should be) is kept in memory, with its event
// unreleased: releasing would lose it.
func (w *Writer) reject(ctx context.Context, batch []pendingRow, err *delivery.RejectedError) (stored []pendingRow) {
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
			w.setRefused(p)
			continue
		}
		p.form++
		p.insert = reduced(p)
		w.rows.add(p)
	}
	if count > 0 {
		w.unlogged += count
		w.refusals.Do(func() {
			w.logger.ErrorContext(ctx, "database refuses deliveries in every form; their events are not released and their partitions are stuck",
				"webhook_id", newest.String(), "error", err, "count", w.unlogged)
			w.unlogged = 0
		})
	}
	return stored
}

// reduced returns the row in p's form.
func reduced(p pendingRow) delivery.Insert {
	in := delivery.DeadLetter(&p.insert.Delivery, p.insert.Attempts, p.insert.LastStatus)
	if p.insert.State == delivery.Dead {
		in.Reason = p.insert.Reason // already dead for another reason
	}
	in.EventType, in.EventID = delivery.Cut(in.EventType, delivery.MaxText), delivery.Cut(in.EventID, delivery.MaxText)
	if p.form == rowKey {
		in.EventType, in.EventID, in.EventTime, in.Traceparent = "", "", time.Time{}, ""
	}
	return in
}

// refusal is a row that the database refused in every form.
type refusal struct {
	row     pendingRow
	offered bool // again; no answer yet
}

func (w *Writer) setRefused(p pendingRow) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refused[p.insert.ID] = refusal{row: p}
	w.metrics.refused.Set(float64(len(w.refused)))
}

// dropRefused forgets a refused row that has been stored or is no longer wanted.
func (w *Writer) dropRefused(p pendingRow) {
	if p.form != rowKey {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.refused, p.insert.ID)
	w.metrics.refused.Set(float64(len(w.refused)))
}

// retryRefused retries refused rows until ctx ends: the table may have been repaired, or the
// partition revoked.
func (w *Writer) retryRefused(ctx context.Context) {
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
