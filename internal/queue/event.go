package queue

import (
	"context"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// FinishEvent removes the row of an event whose filters have spoken and makes the rows of its deliveries, in one transaction. It returns
// false, and has done nothing, where the row does not have the token (any more). It blocks for one try: after an error, of which it is not
// known whether anything was done, the caller may try again, and gets false if it was.
func (w *Writer) FinishEvent(ctx context.Context, id delivery.ID, token delivery.Token, rows []delivery.Insert) (done bool, err error) {
	made := make([]parking, len(rows))
	for i := range rows {
		made[i].insert = rows[i]
		w.ledger.queued(&made[i]) // now, as in Park: a limit that is asked meanwhile must know of them
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
	gone := []delivery.Update{{ID: id, State: delivery.Halted}} // whatever it ended as, it waits no more
	if !done {
		w.ended(gone, []delivery.ID{id})
		return false, nil
	}
	w.ended(gone, nil)
	w.ledger.inserted(made)
	for i := range rows {
		w.metrics.parked.WithLabelValues(string(rows[i].Reason)).Inc()
	}
	return true, nil
}

// End writes the end of a lease at once, for who must know whether it holds: done is false, and nothing was written, where the row does not
// have the token (any more). It blocks for one try. After an error it is not known whether it was written; a second try finds it lost then.
func (w *Writer) End(ctx context.Context, u delivery.Update) (done bool, err error) {
	lost, err := w.write(ctx, []delivery.Update{u})
	return err == nil && len(lost) == 0, err
}
