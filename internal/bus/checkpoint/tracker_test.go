package checkpoint

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

func add(t *testing.T, tr *Tracker, offset int64) Entry {
	t.Helper()
	e, err := tr.Add(offset)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// inFlight returns the number of records that are not settled.
func inFlight(tr *Tracker) (n int) {
	for e := tr.first; e < tr.next; e++ {
		if !tr.at(e).done {
			n++
		}
	}
	return n
}

func wantWatermark(t *testing.T, tr *Tracker, next int64, changed bool) {
	t.Helper()
	if n, c := tr.Watermark(); n != next || c != changed {
		t.Fatalf("watermark %d (changed %v), want %d (%v)", n, c, next, changed)
	}
}

func TestOutOfOrderNeverPassesAnUnsettledRecord(t *testing.T) {
	t.Parallel()
	tr := New(10, 10)
	a, b, c := add(t, tr, 10), add(t, tr, 11), add(t, tr, 12)
	wantWatermark(t, tr, 10, false)
	if tr.Done(c) || tr.Done(b) {
		t.Fatal("watermark moved past the record 10")
	}
	wantWatermark(t, tr, 10, false)
	if tr.Span() != 3 || inFlight(tr) != 1 {
		t.Fatalf("span %d, in flight %d", tr.Span(), inFlight(tr))
	}
	if !tr.Done(a) {
		t.Fatal("watermark did not move")
	}
	wantWatermark(t, tr, 13, true)
	tr.Committed(13)
	wantWatermark(t, tr, 13, false)
	if tr.Done(a) || tr.Done(c) || tr.Done(99) {
		t.Fatal("settling again, or what was never added, moved the watermark")
	}
}

func TestGapsDoNotStall(t *testing.T) {
	t.Parallel()
	tr := New(0, None)
	wantWatermark(t, tr, 0, true)
	a, b := add(t, tr, 5), add(t, tr, 900)
	tr.Done(a)
	wantWatermark(t, tr, 900, true) // nothing between 6 and 899 exists
	if tr.Skip(1000) {
		t.Fatal("skipping moved the watermark past a record in flight")
	}
	wantWatermark(t, tr, 900, true)
	tr.Done(b)
	wantWatermark(t, tr, 1000, true)
	if !tr.Skip(1001) || tr.Skip(500) {
		t.Fatal("skip: want forward only")
	}
	wantWatermark(t, tr, 1001, true)
	if tr.position != 1001 {
		t.Fatalf("position %d", tr.position)
	}
}

func TestAddBehindThePositionIsRefused(t *testing.T) {
	t.Parallel()
	tr := New(7, 7)
	add(t, tr, 7)
	tr.Skip(20)
	for _, offset := range []int64{6, 7, 19} {
		if _, err := tr.Add(offset); err == nil {
			t.Fatalf("offset %d was taken", offset)
		}
	}
	add(t, tr, 20)
}

// model is the obvious implementation: every record ever added, in order.
type model struct {
	offsets  []int64
	done     []bool
	position int64
}

func (m *model) watermark() int64 {
	if i := slices.Index(m.done, false); i >= 0 {
		return m.offsets[i]
	}
	return m.position
}

func (m *model) span() int {
	if i := slices.Index(m.done, false); i >= 0 {
		return len(m.done) - i
	}
	return 0
}

// FuzzTracker runs a program of additions, skips and settlements on the tracker and on the model.
func FuzzTracker(f *testing.F) {
	f.Add([]byte{0, 0, 0, 2, 1, 2, 0, 1, 5, 2, 2})
	f.Add([]byte("\x00\x01\x00\x02\x00\x03\x02\x00\x01\x09\x02\x00\x02\x00"))
	f.Fuzz(func(t *testing.T, program []byte) {
		start := int64(3)
		tr, m := New(start, start), &model{position: start}
		var entries []Entry
		last := start
		for i := 0; i+1 < len(program); i += 2 {
			arg := int64(program[i+1])
			switch program[i] % 3 {
			case 0:
				offset := m.position + arg%4
				entries = append(entries, add(t, tr, offset))
				m.offsets, m.done, m.position = append(m.offsets, offset), append(m.done, false), offset+1
			case 1:
				next := m.position + arg%8 - 2
				tr.Skip(next)
				m.position = max(m.position, next)
			case 2:
				if len(entries) == 0 {
					continue
				}
				// Mostly the recent ones, so that the ring wraps.
				k := len(entries) - 1 - int(arg)%len(entries)
				before := m.watermark()
				m.done[k] = true
				if moved := tr.Done(entries[k]); moved != (m.watermark() != before) {
					t.Fatalf("Done tells moved=%v; the model went from %d to %d", moved, before, m.watermark())
				}
			}
			w, _ := tr.Watermark()
			if w != m.watermark() || tr.Span() != m.span() || tr.position != m.position {
				t.Fatalf("step %d: watermark %d span %d position %d, want %d %d %d",
					i/2, w, tr.Span(), tr.position, m.watermark(), m.span(), m.position)
			}
			if w < last {
				t.Fatalf("watermark went back from %d to %d", last, w)
			}
			last = w
		}
	})
}

func TestRandomProgramsFollowTheModel(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	tr, m := New(0, 0), &model{}
	var open []int
	var entries []Entry
	for range 20_000 {
		if len(open) < 500 && rng.IntN(2) == 0 {
			offset := m.position + int64(rng.IntN(3))
			entries = append(entries, add(t, tr, offset))
			open = append(open, len(m.done))
			m.offsets, m.done, m.position = append(m.offsets, offset), append(m.done, false), offset+1
		} else if len(open) > 0 {
			k := rng.IntN(min(len(open), 40))
			tr.Done(entries[open[k]])
			m.done[open[k]] = true
			open = slices.Delete(open, k, k+1)
		}
		if len(m.done) > 2000 && m.done[0] { // keep the model fast
			cut := len(m.done) - m.span()
			if m.span() == 0 {
				cut = len(m.done)
			}
			m.offsets, m.done, entries = m.offsets[cut:], m.done[cut:], entries[cut:]
			for i := range open {
				open[i] -= cut
			}
		}
		if w, _ := tr.Watermark(); w != m.watermark() {
			t.Fatalf("watermark %d, want %d", w, m.watermark())
		}
		if inFlight(tr) != len(open) {
			t.Fatalf("in flight %d, want %d", inFlight(tr), len(open))
		}
	}
}

func TestDoneFromManyGoroutines(t *testing.T) {
	t.Parallel()
	const records = 5000
	tr := New(0, 0)
	entries := make(chan Entry, 256)
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for e := range entries {
				tr.Done(e)
				tr.Done(e)
			}
		})
	}
	for i := range int64(records) {
		entries <- add(t, tr, i)
	}
	close(entries)
	workers.Wait()
	wantWatermark(t, tr, records, true)
	if tr.Span() != 0 || inFlight(tr) != 0 {
		t.Fatalf("span %d, in flight %d", tr.Span(), inFlight(tr))
	}
}

func BenchmarkTrackerInOrder(b *testing.B) {
	tr := New(0, 0)
	b.ReportAllocs()
	var offset int64
	for b.Loop() {
		e, _ := tr.Add(offset)
		tr.Done(e)
		offset++
	}
}

// BenchmarkTrackerWindow keeps 1,024 records in flight and settles each window backwards, the worst
// order.
func BenchmarkTrackerWindow(b *testing.B) {
	tr := New(0, 0)
	b.ReportAllocs()
	window := make([]Entry, 0, 1024)
	var offset int64
	for b.Loop() {
		e, _ := tr.Add(offset)
		offset++
		if window = append(window, e); len(window) == cap(window) {
			for _, w := range slices.Backward(window) {
				tr.Done(w)
			}
			window = window[:0]
		}
	}
}
