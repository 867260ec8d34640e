package queue

import (
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
	// maxAttempts is how many log rows wait for a database that is away. More are dropped, and counted: the log must
	// never hold up a delivery.
	maxAttempts = 10_000
)

// Writer writes rows, results and the attempt log, each in batches of its own. Its methods never block, but for FinishEvent and End, whose
// callers must know what became of their write.
type Writer struct {
	store   Store
	logger  *slog.Logger
	metrics *writerMetrics

	ledger *ledger // nil: nobody wants to know

	discarded rate.Sometimes // logged
	refusals  rate.Sometimes // logged
	unlogged  int            // refused rows since the last line; only the goroutine that writes rows uses it

	mu      sync.Mutex
	refused map[delivery.ID]refusal // rows that the database takes in no form

	rows     *batcher[parking]
	results  *batcher[delivery.Update]
	attempts *batcher[delivery.Attempt]

	stop context.CancelFunc
	done sync.WaitGroup
}

// parking is a row on its way into the database.
type parking struct {
	insert delivery.Insert
	wanted func() bool
	stored func()
	form   rowForm
	// counted is what the ledger counts for the row until it is stored or given up; zero: nothing.
	counted entry
}

// rowForm is what of a row is offered to the database.
type rowForm uint8

const (
	rowWhole    rowForm = iota
	rowBodyless         // dead, without its body, texts cut to their columns
	rowKey              // dead, nothing but what says whose row it is: no text of others
)

func (w *Writer) isWanted(p parking) bool {
	if p.wanted == nil || p.wanted() {
		return true
	}
	w.forget(p)
	w.ledger.unqueued(&p)
	return false
}

// WriterOptions are what a writer needs.
type WriterOptions struct {
	Store      Store                 // required
	Depth      *DepthMonitor         // counts what is stored and what ends; nil: nobody wants to know
	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil: no metrics
}

// NewWriter returns a writer. What it is given waits in memory until Start.
func NewWriter(o WriterOptions) (*Writer, error) {
	if o.Store == nil {
		return nil, errors.New("queue writer: no store")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
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

// Start begins to write. It is called once, and writing goes on until Stop, whatever becomes of ctx.
func (w *Writer) Start(ctx context.Context) {
	ctx, w.stop = context.WithCancel(context.WithoutCancel(ctx))
	w.done.Go(func() { w.rows.run(ctx) })
	w.done.Go(func() { w.results.run(ctx) })
	w.done.Go(func() { w.attempts.run(ctx) })
	w.done.Go(func() { w.offerAgain(ctx) })
}

// Stop waits until everything is written or ctx ends, then stops the writer. Rows that are not
// stored by then are lost to this process, never to the system: their records have not been
// released, or their leases run out.
func (w *Writer) Stop(ctx context.Context) error {
	err := errors.Join(w.rows.flush(ctx), w.results.flush(ctx), w.attempts.flush(ctx))
	w.stop()
	w.done.Wait()
	return err
}

// Enqueue stores a row and then calls stored once, from the writer's goroutine. It is given up without a call when wanted
// says so before it is written: its record will be read again. It is not asked again then.
func (w *Writer) Enqueue(in delivery.Insert, wanted func() bool, stored func()) {
	p := parking{insert: in, wanted: wanted, stored: stored}
	w.ledger.queued(&p) // now, not when it is stored: a limit that is asked meanwhile must know of it
	w.rows.add(p)
}

// Ready tells why rows or results cannot be written at the moment. A database that answers may all the same be read-only, full or
// refuse this account.
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
		return fmt.Errorf("the database refuses %d deliveries in any form, so their events are not released, such as %s: "+
			"compare webhook_dispatcher_delivery with what `webhook-dispatcher migrate` makes", len(w.refused), id)
	}
	return nil
}

// Settle writes the result of a lease.
func (w *Writer) Settle(u delivery.Update) { w.results.add(u) }

// Log appends to the attempt log, or counts the attempt as dropped where too many wait.
func (w *Writer) Log(a delivery.Attempt) {
	if w.attempts.waiting() >= maxAttempts {
		w.metrics.attemptsDropped.Inc()
		return
	}
	w.attempts.add(a)
}

// MaxBody returns the largest body in bytes that fits a row.
func (w *Writer) MaxBody() int { return w.store.MaxBody() }

func (w *Writer) insert(ctx context.Context, batch []parking) error {
	inserts := make([]delivery.Insert, 0, len(batch))
	kept := batch[:0:0]
	for i, p := range batch {
		if !w.isWanted(p) {
			batch[i] = parking{wanted: func() bool { return false }} // the batch may be tried again: do not ask twice
			continue
		}
		inserts = append(inserts, p.insert)
		kept = append(kept, p)
	}
	if len(inserts) == 0 {
		return nil
	}
	err := w.store.Insert(ctx, inserts)
	var rejected *delivery.RejectedError
	if err != nil && !errors.As(err, &rejected) {
		w.metrics.failures.WithLabelValues("rows").Inc()
		return err
	}
	if rejected != nil {
		kept = w.reject(ctx, kept, rejected)
	}
	w.ledger.inserted(kept)
	for _, p := range kept {
		w.forget(p)
		w.metrics.parked.WithLabelValues(string(p.insert.Reason)).Inc()
		if p.stored != nil {
			p.stored()
		}
	}
	return nil
}

func (w *Writer) finish(ctx context.Context, batch []delivery.Update) error {
	lost, err := w.write(ctx, batch)
	if len(lost) > 0 {
		w.discarded.Do(func() { // the counter has the rest
			w.logger.WarnContext(ctx, "results discarded: their rows are leased to somebody else or have ended; "+
				"the leases ran out, or the events were read a second time", "count", len(lost))
		})
	}
	return err
}

// write makes one try to write results, counts it, and returns those that were not written because their rows are not ours any more.
func (w *Writer) write(ctx context.Context, batch []delivery.Update) (lost []delivery.ID, err error) {
	lost, err = w.store.Finish(ctx, batch)
	if err != nil {
		w.metrics.failures.WithLabelValues("results").Inc()
		return nil, err
	}
	w.ended(batch, lost)
	return lost, nil
}

// ended notes results that were written; those of lost IDs were not.
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
	parked          *prometheus.CounterVec
	failures        *prometheus.CounterVec
	resultsLost     prometheus.Counter
	rejected        prometheus.Counter
	refused         prometheus.Gauge
	attemptsDropped prometheus.Counter
}

func newWriterMetrics(reg prometheus.Registerer) (*writerMetrics, error) {
	m := &writerMetrics{
		parked: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "webhook_dispatcher_rows_enqueued_total",
			Help: "Deliveries stored as rows, by the reason that made them rows.",
		}, []string{"reason"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "webhook_dispatcher_queue_write_failures_total",
			Help: "Batches that the database did not take and that are tried again, by what they hold.",
		}, []string{"what"}),
		resultsLost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "webhook_dispatcher_results_discarded_total",
			Help: "Results that were not written because the lease had run out and gone to somebody else.",
		}),
		rejected: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "webhook_dispatcher_rows_rejected_total", Help: "Rows that the database refused for good; most are kept without their body.",
		}),
		refused: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "webhook_dispatcher_rows_refused",
			Help: "Rows that the database takes in no form; their events are not released, and their partitions stand still.",
		}),
		attemptsDropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "webhook_dispatcher_attempts_dropped_total",
			Help: "Attempts missing in the attempt log because too many waited for the database.",
		}),
	}
	for _, r := range delivery.Reasons() {
		m.parked.WithLabelValues(string(r))
	}
	for _, what := range []string{"rows", "results", "attempts"} {
		m.failures.WithLabelValues(what)
	}
	return m, metric.Register(reg, m.parked, m.failures, m.resultsLost, m.rejected, m.refused, m.attemptsDropped)
}
