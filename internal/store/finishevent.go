package store

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// FinishEvent deletes the row of an event that has passed its webfilters and creates those of its
// deliveries, if any, in one transaction. done is false, and nothing has changed, if the row is not
// leased with the token. Existing rows of deliveries stay. If a row does not fit nothing is done,
// and the error is a *delivery.RejectedError.
func (s *Store) FinishEvent(ctx context.Context, id delivery.ID, token delivery.Token, rows []delivery.Insert) (done bool, err error) {
	for i := range rows {
		if rows[i].State != delivery.Pending && rows[i].State != delivery.Dead {
			return false, fmt.Errorf("finish event %s: a delivery begins pending or dead, not %s", id, rows[i].State)
		}
	}
	pick, rejected := s.pick(rows)
	if len(rejected) > 0 {
		return false, &delivery.RejectedError{Rows: rejected}
	}
	err = s.transaction(ctx, fmt.Sprintf("finish event %s", id), func(tx *sql.Tx) error {
		held, err := lockLeased(ctx, tx, []delivery.Update{{ID: id}})
		row, leased := held[id]
		if done = leased && row.token == token && token != (delivery.Token{}); err != nil || !done {
			return err
		}
		if err := s.insertIn(ctx, tx, rows, pick); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM webhook_dispatcher_delivery WHERE id = ?", row.row)
		return err
	})
	if err != nil {
		return false, err
	}
	return done, nil
}
