package queue

import (
	"context"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// FinishEvent deletes the row of an event that has passed its webfilters and creates those of its
// deliveries in one transaction. done is false, and nothing has changed, if token no longer holds
// the row. It makes one try. After an error the outcome is unknown; a second try returns false if
// the first succeeded.
func (w *Writer) FinishEvent(ctx context.Context, id delivery.ID, token delivery.Token, rows []delivery.Insert) (done bool, err error) {
	made := make([]pendingRow, len(rows))
	for i := range rows {
		made[i].insert = rows[i]
		w.ledger.queued(&made[i]) // now, as in Enqueue: the limits must count them
	}
	done, err = w.store.FinishEvent(ctx, id, token, rows)
	if err != nil || !done {
		for i := range made {
			w.ledger.unqueued(&made[i])
		}
	}
	if err != nil {
		w.metrics.failures.WithLabelValues("results").Inc()
		return false, err
	}
	gone := []delivery.Update{{ID: id, State: delivery.Halted}} // any ended state will do for the ledger
	if !done {
		w.ended(gone, []delivery.ID{id})
		return false, nil
	}
	w.ended(gone, nil)
	w.ledger.inserted(made)
	for i := range rows {
		w.metrics.enqueued.WithLabelValues(string(rows[i].Reason)).Inc()
	}
	return true, nil
}

// End writes the result of a lease at once, for callers that must know whether they still hold it:
// done is false, and nothing was written, if they do not. It makes one try. After an error the
// outcome is unknown; a second try returns false if the first succeeded.
func (w *Writer) End(ctx context.Context, u delivery.Update) (done bool, err error) {
	lost, err := w.write(ctx, []delivery.Update{u})
	return err == nil && len(lost) == 0, err
}
