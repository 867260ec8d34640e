package decode

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/event"
)

const (
	knownType = "org.openedx.learning.course.enrollment.created.v1"
	traceOK   = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
)

func headers(pairs ...string) []bus.Header {
	var out []bus.Header
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, bus.Header{Key: pairs[i], Value: []byte(pairs[i+1])})
	}
	return out
}

func TestEnvelope(t *testing.T) {
	t.Parallel()
	d := newDecoder(t, nil)
	full := []string{
		"ce_specversion", "1.0", "content-type", "application/avro", "ce_type", knownType, "ce_id", "1a", "ce_source", "openedx/lms/web",
		"ce_time", "2023-01-31T20:24:32.598387+00:00", "ce_minorversion", "3", "sourcehost", "höst", "sourcelib", "9.10.11.12",
	}
	repeated := []string{"x", "\xff", "ce_type", "t", "x", "", "ce_specversion", "1", "ce_specversion", "", "ce_id", "i"}
	for name, test := range map[string]struct {
		headers []string
		want    event.Event
	}{
		"all": {full, event.Event{
			Type: knownType, ID: "1a", Source: "openedx/lms/web", SourceHost: "höst", MinorVersion: 3, SourceLib: []int64{9, 10, 11, 12},
			Time: time.Date(2023, 1, 31, 20, 24, 32, 598_387_000, time.UTC),
		}},
		"defaults": {[]string{"ce_type", "t", "ce_id", "i"}, event.Event{
			Type: "t", ID: "i", Time: recordTime, SourceLib: []int64{11, 2, 0},
		}},
		"empty ones get defaults": {[]string{"ce_type", "t", "ce_id", "i", "ce_time", "", "ce_minorversion", "", "sourcelib", ""}, event.Event{
			Type: "t", ID: "i", Time: recordTime, SourceLib: []int64{11, 2, 0},
		}},
		"what Python's int() takes": {[]string{"ce_type", "t", "ce_id", "i", "ce_minorversion", " +2 ", "sourcelib", "11. 3.-1"}, event.Event{
			Type: "t", ID: "i", Time: recordTime, MinorVersion: 2, SourceLib: []int64{11, 3, -1},
		}},
		"trace": {[]string{"ce_type", "t", "ce_id", "i", "traceparent", traceOK}, event.Event{
			Type: "t", ID: "i", Time: recordTime, SourceLib: []int64{11, 2, 0}, Traceparent: traceOK,
		}},
		"a wrong trace is none": {[]string{"ce_type", "t", "ce_id", "i", "traceparent", "00-x"}, event.Event{
			Type: "t", ID: "i", Time: recordTime, SourceLib: []int64{11, 2, 0},
		}},
		"two traces are none": {[]string{"ce_type", "t", "ce_id", "i", "traceparent", traceOK, "traceparent", traceOK}, event.Event{
			Type: "t", ID: "i", Time: recordTime, SourceLib: []int64{11, 2, 0},
		}},
		"others may repeat": {repeated, event.Event{
			Type: "t", ID: "i", Time: recordTime, SourceLib: []int64{11, 2, 0},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec := bus.NewRecord("topic", 0, 0)
			rec.Time = recordTime.In(time.FixedZone("", 3600)).Add(999) // nanoseconds are cut off
			rec.Headers = headers(test.headers...)
			got, err := d.Envelope(rec)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got.SourceLib, test.want.SourceLib) {
				t.Errorf("sourcelib %v, want %v", got.SourceLib, test.want.SourceLib)
			}
			if got.Time.Location() != time.UTC {
				t.Errorf("time %s is not in UTC", got.Time)
			}
			got.SourceLib, test.want.SourceLib = nil, nil
			if got.Type != test.want.Type || got.ID != test.want.ID || got.Source != test.want.Source || got.SourceHost != test.want.SourceHost ||
				!got.Time.Equal(test.want.Time) || got.MinorVersion != test.want.MinorVersion || got.Traceparent != test.want.Traceparent {
				t.Errorf("got %+v\nwant %+v", got, test.want)
			}
		})
	}
}

func TestEnvelopeUndecodable(t *testing.T) {
	t.Parallel()
	d := newDecoder(t, nil)
	const good = "ce_type=t,ce_id=i,"
	for _, test := range []struct {
		headers string
		want    Reason
	}{
		{"", ReasonNoType},
		{"ce_id=i", ReasonNoType},
		{"ce_type=,ce_id=i", ReasonNoType},
		{"CE_TYPE=t,ce_id=i", ReasonNoType},
		{"ce_type=t", ReasonNoID},
		{"ce_type=t,ce_id=", ReasonNoID},
		{"ce_type=t,ce_type=t,ce_id=i", ReasonRepeatedHeader},
		{"ce_type=t,ce_type=u,ce_id=i", ReasonRepeatedHeader},
		{good + "ce_id=i", ReasonRepeatedHeader},
		{good + "ce_source=a,ce_source=a", ReasonRepeatedHeader},
		{good + "ce_time=,ce_time=", ReasonRepeatedHeader},
		{good + "ce_minorversion=0,ce_minorversion=0", ReasonRepeatedHeader},
		{good + "sourcehost=a,sourcehost=a", ReasonRepeatedHeader},
		{good + "sourcelib=1,sourcelib=1", ReasonRepeatedHeader},
		{"ce_type=\xff,ce_id=i", ReasonBadHeader},
		{"ce_type=t,ce_id=a\xc3", ReasonBadHeader},
		{good + "sourcehost=\xed\xa0\x80", ReasonBadHeader},
		{good + "ce_source=" + strings.Repeat("x", 2000), ReasonBadHeader},
		{"ce_id=i,ce_type=" + strings.Repeat("x", 192), ReasonBadHeader},
		{good + "ce_time=yesterday", ReasonBadHeader},
		{good + "ce_time=2023-01-31T20:24:32", ReasonBadHeader},
		{good + "ce_minorversion=1.0", ReasonBadHeader},
		{good + "ce_minorversion=99999999999999999999", ReasonBadHeader},
		{good + "sourcelib=11.2.0.dev1", ReasonBadHeader},
		{good + "sourcelib=11..0", ReasonBadHeader},
		{good + "sourcelib=[11;2;0]", ReasonBadHeader},
	} {
		rec := bus.NewRecord("topic", 0, 0)
		for pair := range strings.SplitSeq(test.headers, ",") {
			if key, value, ok := strings.Cut(pair, "="); ok {
				rec.Headers = append(rec.Headers, bus.Header{Key: key, Value: []byte(value)})
			}
		}
		_, err := d.Envelope(rec)
		u, ok := AsUndecodable(err)
		if !ok || u.Reason != test.want {
			t.Errorf("%.60q: %v, want %s", test.headers, err, test.want)
			continue
		}
		if len(u.Detail) > maxDetail || strings.Contains(u.Detail, "yesterday") {
			t.Errorf("%.60q: the detail holds the value: %s", test.headers, u.Detail)
		}
	}
}

// The wanted moments are those that Python 3.12's datetime.fromisoformat gives, "" where it fails
// or gives no offset. What it takes by oversight alone is refused, with a comment.
func TestParseTime(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"2023-01-31T20:24:32.598387+00:00":     "2023-01-31T20:24:32.598387Z",
		"2023-01-31T20:24:32+00:00":            "2023-01-31T20:24:32Z",
		"2023-01-31 20:24:32.598387+00:00":     "2023-01-31T20:24:32.598387Z",
		"2023-01-31T20:24:32Z":                 "2023-01-31T20:24:32Z",
		"2023-01-31T20:24:32.5Z":               "2023-01-31T20:24:32.5Z",
		"2023-01-31T20:24:32,123456789Z":       "2023-01-31T20:24:32.123456Z",
		"2023-01-31T20:24+01:30":               "2023-01-31T18:54:00Z",
		"2023-01-31T20-0500":                   "2023-02-01T01:00:00Z",
		"2023-01-01T00:30:00+01":               "2022-12-31T23:30:00Z",
		"2023-01-31T20:24:32.000001-23:59:59":  "2023-02-01T20:24:31.000001Z",
		"2024-02-29T23:59:59.999999+00:00":     "2024-02-29T23:59:59.999999Z",
		"9999-12-31T23:59:59.999999+00:00":     "9999-12-31T23:59:59.999999Z",
		"9999-12-31T23:59:59.999999-00:01":     "",
		"0999-12-31T23:59:59+00:00":            "", // Python takes it; MySQL does not
		"2023-02-29T00:00:00+00:00":            "",
		"2023-13-01T00:00:00+00:00":            "",
		"2023-00-01T00:00:00+00:00":            "",
		"2023-01-31T24:00:00+00:00":            "",
		"2023-01-31T20:60:00+00:00":            "",
		"2023-01-31T20:24:60+00:00":            "",
		"2023-01-31T20:24:32":                  "",
		"2023-01-31":                           "",
		"2023-01-31T20:24:32z":                 "",
		"2023-01-31T20:24:32.+00:00":           "", // Python takes it
		"2023-01-31T20:24:32+24:00":            "",
		"2023-01-31T20:24:32+00:60":            "", // Python takes it
		"2023-01-31T20:24:32+":                 "",
		"2023-01-31T20:24:32+00:00 ":           "",
		"23-01-31T20:24:32+00:00":              "",
		"":                                     "",
		"2023-01-31T20:24:32.598387+00:00\x00": "", // Python takes it
	} {
		got, ok := parseTime(text)
		if ok != (want != "") {
			t.Errorf("%q: %v, %v", text, got, ok)
		} else if ok && got.Format(time.RFC3339Nano) != want {
			t.Errorf("%q: %s, want %s", text, got.Format(time.RFC3339Nano), want)
		}
	}
}

func FuzzEnvelope(f *testing.F) {
	f.Add("2023-01-31T20:24:32.598387+00:00", "0", "11.2.0", traceOK)
	f.Add("2023-01-31 20-0500", " +1", "1", "")
	d := newDecoder(f, nil)
	f.Fuzz(func(t *testing.T, when, minor, lib, trace string) {
		rec := bus.NewRecord("topic", 0, 0)
		rec.Headers = headers("ce_type", "t", "ce_id", "i", "ce_time", when, "ce_minorversion", minor, "sourcelib", lib, "traceparent", trace)
		ev, err := d.Envelope(rec)
		if err != nil {
			if _, ok := AsUndecodable(err); !ok {
				t.Fatal(err)
			}
			return
		}
		if ev.Time.Nanosecond()%1000 != 0 || ev.Traceparent != "" && ev.Traceparent != trace {
			t.Fatalf("%+v", ev)
		}
	})
}
