package store

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"no DSN": {},
	} {
		if _, err := Open(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestOpenDoesNotConnect(t *testing.T) {
	t.Parallel()
	s, err := Open(Options{DSN: "app:canary@tcp(127.0.0.1:1)/edxapp"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	err = s.Ping(t.Context())
	if err == nil || strings.Contains(err.Error(), "canary") || !strings.Contains(err.Error(), "127.0.0.1:1/edxapp") {
		t.Errorf("Ping: got %v, want an error that names the server and not the password", err)
	}
	if got := s.MaxBody(); got != (assumedPacket-overhead)/2 {
		t.Errorf("MaxBody before a connection: %d", got)
	}
	for packet, want := range map[int64]int{1024: 0, 1 << 20: 1<<19 - overhead/2, 64 << 20: maxMediumBlob, 1 << 40: maxMediumBlob} {
		s.packet.Store(packet)
		if got := s.MaxBody(); got != want {
			t.Errorf("MaxBody with max_allowed_packet %d: got %d, want %d", packet, got, want)
		}
	}
}

func TestClean(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		number uint16
		quotes bool
	}{{errIncorrectString, false}, {1062, false}, {1064, false}, {errDataTooLong, true}, {1045, true}} {
		cause := &mysql.MySQLError{Number: c.number, SQLState: [5]byte{'H', 'Y', '0', '0', '0'}, Message: "canary"}
		err := clean(fmt.Errorf("in statement canary: %w", cause))
		if strings.Contains(err.Error(), "canary") != c.quotes {
			t.Errorf("error %d: %q", c.number, err)
		}
		if !errors.Is(err, cause) || !isNumber(fmt.Errorf("x: %w", err), c.number) {
			t.Errorf("error %d: its number is lost", c.number)
		}
	}
	if plain := errors.New("plain"); !errors.Is(clean(plain), plain) || clean(nil) != nil {
		t.Error("an error of another kind is changed")
	}
}

func TestRetryGivesUp(t *testing.T) {
	t.Parallel()
	s, err := Open(Options{DSN: "a:b@tcp(127.0.0.1:1)/c"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	deadlock := &mysql.MySQLError{Number: errDeadlock}
	for _, c := range []struct {
		name    string
		fails   int
		err     error
		calls   int
		wantErr bool
	}{
		{"at once", 0, nil, 1, false},
		{"after two deadlocks", 2, deadlock, 3, false},
		{"for ever", 100, deadlock, maxRetries + 1, true},
		{"another error", 100, mysql.ErrInvalidConn, 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			calls := 0
			err := s.retry(t.Context(), "try", func() error {
				calls++
				if calls <= c.fails {
					return c.err
				}
				return nil
			})
			if calls != c.calls || (err != nil) != c.wantErr || (err != nil && !errors.Is(err, c.err)) {
				t.Errorf("%d calls, error %v", calls, err)
			}
		})
	}
}

func TestTimeOrNull(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("", 2*3600)
	want := time.Date(2023, 12, 31, 23, 0, 0, 999_999_000, time.UTC)
	if got := timeOrNull(time.Date(2024, 1, 1, 1, 0, 0, 999_999_999, zone), time.Microsecond); got != want {
		t.Errorf("got %v, want it in UTC and cut", got)
	}
	for _, none := range []time.Time{{}, time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if got := timeOrNull(none, time.Microsecond); got != nil {
			t.Errorf("%v: got %v, want nil", none, got)
		}
	}
}
