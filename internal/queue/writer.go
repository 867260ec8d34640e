package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/metric"
)

const (
	batchRows = 500
	// maxAttempts is how many attempts may wait to be logged. More are dropped and counted: the
	// log must never delay a delivery.
	maxAttempts = 10_000
)

// Writer writes rows, results and the attempt log, each in its own batches. Only FinishEvent and
// End block.
type Writer struct {
	store   Store
	logger  *slog.Logger
	metrics *writerMetrics
	ledger  *ledger

	discarded, refusals rate.Sometimes // log lines
	unlogged            int            // refused rows since the last line; for the rows goroutine only

	mu      sync.Mutex
	refused map[delivery.ID]refusal

	rows     *batcher[pendingRow]
	results  *batcher[delivery.Update]
	attempts *batcher[delivery.Attempt]

	stop context.CancelFunc
	done sync.WaitGroup
}

// pendingRow is a row that is about to be inserted.
type pendingRow struct {
	insert  delivery.Insert
	wanted  func() bool
	stored  func()
	form    rowForm
	counted size // by the ledger, until the row is stored or given up
}

// rowForm is how much of a row is sent to the database.
type rowForm uint8

const (
	rowWhole    rowForm = iota
	rowBodyless         // dead, without its body, texts cut to their columns' sizes
	rowKey              // dead, only its identity: no foreign text
)

func (w *Writer) isWanted(p pendingRow) bool {
	if p.wanted == nil || p.wanted() {
		return true
	}
	w.dropRefused(p)
	w.ledger.unqueued(&p)
	return false
}

// WriterOptions configure a Writer.
type WriterOptions struct {
	Store      Store                 // required
	Depth      *DepthMonitor         // learns what is stored and what ends; nil: no queue limits
	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil: no metrics
}

// NewWriter returns a writer. What it is given before Start waits in memory.
func NewWriter(o WriterOptions) (*Writer, error) {
	if o.Store == nil {
		return nil, errors.New("queue writer: no store")
	}
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	metrics, err := newWriterMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("queue writer: %w", err)
	}
	w := &Writer{
		store: o.Store, logger: o.Logger, metrics: metrics, ledger: o.Depth.book(), stop: func() {},
		refused:   make(map[delivery.ID]refusal),
		discarded: rate.Sometimes{Interval: time.Minute}, refusals: rate.Sometimes{Interval: time.Minute},
	}
	w.rows = newBatcher("rows", batchRows, o.Logger, w.insert)
	w.rows.wanted = w.isWanted
	w.results = newBatcher("results", batchRows, o.Logger, w.finish)
	w.attempts = newBatcher("attempts", batchRows, o.Logger, w.log)
	return w, nil
}

// Start starts writing, until Stop and whatever becomes of ctx. Call it once.
func (w *Writer) Start(ctx context.Context) {
	ctx, w.stop = context.WithCancel(context.WithoutCancel(ctx))
	w.done.Go(func() { w.rows.run(ctx) })
	w.done.Go(func() { w.results.run(ctx) })
	w.done.Go(func() { w.attempts.run(ctx) })
	w.done.Go(func() { w.retryRefused(ctx) })
}

// Stop waits until everything is written or ctx ends, then stops the writer. Nothing is lost with
// rows that are not stored by then: their records have not been released, or their leases expire.
func (w *Writer) Stop(ctx context.Context) error {
	err := errors.Join(w.rows.flush(ctx), w.results.flush(ctx), w.attempts.flush(ctx))
	w.stop()
	w.done.Wait()
	return err
}

// Enqueue stores a row, then calls stored from the writer's goroutine. Before each try it calls
// wanted; once that returns false, the row is dropped without a call to stored. Its record will be
// read again.
func (w *Writer) Enqueue(in delivery.Insert, wanted func() bool, stored func()) {
	p := pendingRow{insert: in, wanted: wanted, stored: stored}
	w.ledger.queued(&p) // now, not once stored: the limits must count it
	w.rows.add(p)
}

// Ready returns why rows or results cannot be written at present. A database that answers may still
// be read-only, full, or refuse this account.
func (w *Writer) Ready() error {
	if err := w.rows.failure.Load(); err != nil {
		return fmt.Errorf("write rows: %w", *err)
	}
	if err := w.results.failure.Load(); err != nil {
		return fmt.Errorf("write results: %w", *err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for id := range w.refused {
		return fmt.Errorf("the database refuses %d deliveries in every form and their events are not released, such as %s: "+
			"compare webhook_dispatcher_delivery with the table that `webhook-dispatcher migrate` creates", len(w.refused), id)
	}
	return nil
}

// Settle writes the result of a lease.
func (w *Writer) Settle(u delivery.Update) { w.results.add(u) }

// Log appends to the attempt log, or drops the attempt and counts it if too many wait.
func (w *Writer) Log(a delivery.Attempt) {
	if w.attempts.waiting() >= maxAttempts {
		w.metrics.attemptsDropped.Inc()
		return
	}
	w.attempts.add(a)
}

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

// MaxBody returns the largest body in bytes that fits a row.
func (w *Writer) MaxBody() int { return w.store.MaxBody() }

func (w *Writer) insert(ctx context.Context, batch []pendingRow) error {
	inserts := make([]delivery.Insert, 0, len(batch))
	kept := batch[:0:0]
	for i, p := range batch {
		if !w.isWanted(p) {
			batch[i] = pendingRow{wanted: func() bool { return false }} // do not ask twice on a retry
			continue
		}
		inserts = append(inserts, p.insert)
		kept = append(kept, p)
	}
	if len(inserts) == 0 {
		return nil
	}
	err := w.store.Insert(ctx, inserts)
	if rejected, ok := errors.AsType[*delivery.RejectedError](err); ok {
		kept = w.reject(ctx, kept, rejected)
	} else if err != nil {
		w.metrics.failures.WithLabelValues("rows").Inc()
		return err
	}
	w.ledger.inserted(kept)
	for _, p := range kept {
		w.dropRefused(p)
		w.metrics.enqueued.WithLabelValues(string(p.insert.Reason)).Inc()
		if p.stored != nil {
			p.stored()
		}
	}
	return nil
}

func (w *Writer) finish(ctx context.Context, batch []delivery.Update) error {
	lost, err := w.write(ctx, batch)
	if len(lost) > 0 {
		w.discarded.Do(func() {
			w.logger.WarnContext(ctx, "results discarded: the leases expired and other processes hold the rows, "+
				"or the events were read twice", "count", len(lost))
		})
	}
	return err
}

// write tries once to write results, counts it, and returns those whose lease is lost.
func (w *Writer) write(ctx context.Context, batch []delivery.Update) (lost []delivery.ID, err error) {
	if lost, err = w.store.Finish(ctx, batch); err != nil {
		w.metrics.failures.WithLabelValues("results").Inc()
		return nil, err
	}
	w.ended(batch, lost)
	return lost, nil
}

// ended records results that were written; those of lost were not.
func (w *Writer) ended(batch []delivery.Update, lost []delivery.ID) {
	w.ledger.finished(batch, lost)
	w.metrics.resultsLost.Add(float64(len(lost)))
}

func (w *Writer) log(ctx context.Context, batch []delivery.Attempt) error {
	err := w.store.LogAttempts(ctx, batch)
	if err != nil {
		w.metrics.failures.WithLabelValues("attempts").Inc()
	}
	return err
}

type writerMetrics struct {
	enqueued, failures                     *prometheus.CounterVec
	resultsLost, rejected, attemptsDropped prometheus.Counter
	refused                                prometheus.Gauge
}

func newWriterMetrics(reg prometheus.Registerer) (*writerMetrics, error) {
	m := &writerMetrics{
		enqueued: metric.CounterVec("webhook_dispatcher_rows_enqueued_total", "Deliveries stored as rows, by reason.", "reason"),
		failures: metric.CounterVec("webhook_dispatcher_queue_write_failures_total",
			"Failed batch writes to the database, which are retried, by content.", "what"),
		resultsLost: metric.Counter("webhook_dispatcher_results_discarded_total",
			"Results discarded because the lease had expired and another process held the row."),
		rejected: metric.Counter("webhook_dispatcher_rows_rejected_total",
			"Rows that the database refused permanently; most are then stored without their body."),
		refused: metric.Gauge("webhook_dispatcher_rows_refused",
			"Rows that the database refuses in every form; their events are not released and their partitions are stuck."),
		attemptsDropped: metric.Counter("webhook_dispatcher_attempts_dropped_total",
			"Attempts not logged because too many were waiting for the database."),
	}
	for _, r := range delivery.Reasons() {
		m.enqueued.WithLabelValues(string(r))
	}
	for _, what := range []string{"rows", "results", "attempts"} {
		m.failures.WithLabelValues(what)
	}
	return m, metric.Register(reg, m.enqueued, m.failures, m.resultsLost, m.rejected, m.refused, m.attemptsDropped)
}
