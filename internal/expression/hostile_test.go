package expression

import (
	"runtime/metrics"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
)

// large are values that are large, or become so: what hostile programs are made of.
var large = []string{
	`"x" * 1000000`, `("x," * 300000)`, `("x" * 1000000 / "")`, `("é" * 250000 | explode)`, `[range(5000)]`,
	`$data.list`, `$data`, `reduce range(40) as $i ([1]; [., .])`, `reduce range(40) as $i ({}; {a: ., b: .})`,
	`reduce range(3000) as $i (0; [.])`, `500000000`, `-500000000`, `1e308`, `("9" * 16000 | tonumber)`, `null`, `0`, `1`,
	`[]`, `{}`, `"x"`, `""`, `"g"`, `"(x+x+)+y"`, `"x*y|x"`, `("()" * 300)`, `("%999d" * 2000)`, `("%Z%c" * 4000)`, `.[500000000]`,
	`.[1000:]`, `.[]`, `["a", 500000000]`, `[["a"], [500000000]]`, `[range(300) | [{start: ., end: null}]]`,
	`{start: 0, end: 500000000}`, `("[" * 9000 + "]" * 9000)`, `("[1]," * 200000)`, `empty`, `.`,
}

// around are contexts for two of them.
var around = []string{
	`(A) + (B)`, `(A) - (B)`, `(A) * (B)`, `(A) / (B)`, `(A) % (B)`, `(A) == (B)`, `(A) < (B)`, `(A) // (B)`, `A | .[B]`,
	`A | .[B:]`, `A | .[:B]`, `A | .[B] = 1`, `A | .[B] |= empty`, `A | .[B] += 1`, `A | .[B:] |= empty`,
	`A | .[range(1000):] |= empty`, `A | .[] |= empty`, `A | (B) = 1`, `A | (B) |= 1`, `A | (nth(B)) = 1`,
	`A | to_entries[B] = 1`, `A | . as {(B): $x} | $x`, `A | [.[] as [$x] | $x]`, `{(A): 1} | keys[0] | length`,
	`[limit(B; A)]`, `[A] | "\(.)\(.)" `, `{"\(A)\(A)\(A)\(A)\(A)\(A)\(A)": 1} | keys[0] / ""`, `A | @csv`, `A | @json "\(B)"`,
	`A | @uri, @html, @sh, @tsv, @base64, @base64d, @text`, `[A, B] | @sh`, `-(A)`, `A | try error catch .`, `[A | ..]`,
	`[paths(B)]`, `reduce (A) as $x (B; . + $x)`, `reduce range(30) as $i (A; . + B)`, `reduce range(30) as $i (A; [., B])`,
	`reduce range(30) as $i (A; . * .)`, `[A | recurse(B)]`, `[range(1; B)]`, `def f: A, f; [f]`, `def f(x): x, x; f(f(f(A)))`,
	`pick(A)`, `A | pick(.[B])`, `A | pick(nth(B))`, `path(A)`, `A | del(.[B], .[B:])`, `A | label $f | ., break $f`,
}

// program returns the program that bytes make, of as many stages as there are.
func program(bytes []byte) string {
	names := slices.Compact(slices.Sorted(slices.Values(prelude().allowed)))
	next := func() int {
		if len(bytes) == 0 {
			return 0
		}
		b := int(bytes[0])
		bytes = bytes[1:]
		return b
	}
	value := func() string { return large[next()%len(large)] }
	stages := []string{value()}
	for len(bytes) > 0 && len(stages) < 6 {
		if next()%2 == 0 {
			stages = append(stages, strings.NewReplacer("A", value(), "B", value()).Replace(around[next()%len(around)]))
			continue
		}
		name := names[next()%len(names)]
		args := make([]string, next()%4)
		for i := range args {
			args[i] = value()
		}
		if len(args) > 0 {
			name += "(" + strings.Join(args, "; ") + ")"
		}
		stages = append(stages, name)
	}
	return strings.Join(stages, " | ")
}

// allocated returns how many bytes the process has allocated so far.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// maxHostile and maxHostileMemory are for the worst that a run may do on a machine that is busy.
const (
	maxHostile       = busy
	maxHostileMemory = 1 << 30
)

// withinBounds runs a program if it compiles, and reports where it takes too much.
func withinBounds(t *testing.T, text string, m *payload.Message) {
	t.Helper()
	p, err := Compile(text, payload.Value{})
	if err != nil {
		return
	}
	in := NewInput(m)
	in.make()
	before, begin := allocated(), time.Now()
	_, err = p.Apply(t.Context(), in)
	took, bytes := time.Since(begin), allocated()-before
	if took > maxHostile || bytes > maxHostileMemory {
		t.Errorf("%s\ntook %v and %d MB: %v", text, took, bytes>>20, err)
	}
}

// Whatever a program is, a run of it ends soon and takes a bounded amount of memory.
func FuzzHostile(f *testing.F) {
	for i := range around {
		for j := range large {
			if (i+j)%8 == 0 {
				f.Add([]byte{byte(j), 0, byte(j * 7), byte(j * 3), byte(i)})
			}
		}
	}
	m := message(f, wide())
	f.Fuzz(func(t *testing.T, bytes []byte) { withinBounds(t, program(bytes), m) })
}
