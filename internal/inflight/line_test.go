package inflight

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// The line is compared with two plain slices, after random steps.
func TestLineKeepsItsOrder(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var l Line[int]
		var rows, first []int // negative items are rows
		active := 0
		remove := func(from []int, item int) []int {
			return slices.DeleteFunc(slices.Clone(from), func(other int) bool { return other == item })
		}
		for i := 1; i < 100; i++ {
			switch rng.IntN(6) {
			case 0:
				l.Push(-i, true)
				rows = append(rows, -i)
			case 1, 2:
				l.Push(i, false)
				first = append(first, i)
			case 3, 4:
				var want int
				if len(rows) > 0 {
					want, rows = rows[0], rows[1:]
				} else if len(first) > 0 {
					want, first = first[0], first[1:]
				}
				if got, ok := l.Begin(); got != want || ok != (want != 0) {
					t.Fatalf("begin: got %d, %v, want %d", got, ok, want)
				}
				if active++; want == 0 || rng.IntN(2) == 0 {
					if active--; want != 0 {
						l.End(want < 0)
					}
				}
			case 5:
				item := rng.IntN(i)
				was := slices.Contains(first, item)
				if first = remove(first, item); l.Leave(item, false) != was {
					t.Fatalf("leave: %d was in line: %v", item, was)
				}
			}
			waitingFirst, waitingRows := l.Waiting()
			if waitingFirst != len(first) || waitingRows != len(rows) || l.Active() != active ||
				l.Empty() != (len(first)+len(rows)+active == 0) {
				t.Fatalf("%d and %d in line, %d active; want %v, %v and %d", waitingFirst, waitingRows, l.Active(), first, rows, active)
			}
		}
		small := func(item int) bool { return item%2 == 0 }
		large := func(item int) bool { return item%2 != 0 }
		if got, want := l.TakeFirst(small), slices.DeleteFunc(slices.Clone(first), large); !slices.Equal(got, want) {
			t.Fatalf("took %v, want %v", got, want)
		}
		all := func(int) bool { return true }
		if got := l.TakeRows(all); !slices.Equal(got, rows) {
			t.Fatalf("took rows %v, want %v", got, rows)
		}
		if got, want := l.TakeFirst(all), slices.DeleteFunc(first, small); !slices.Equal(got, want) {
			t.Fatalf("took %v, want %v", got, want)
		}
	}
}
