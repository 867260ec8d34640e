//go:build unix

package sender

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

const benchBody = 1024

// cheapServer answers each request of a known size with as little work as can be.
func cheapServer(b *testing.B) string {
	b.Helper()
	end := []byte("\r\n\r\n")
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	return raw(b, func(conn net.Conn) {
		buf := make([]byte, 0, 8192)
		for {
			n, err := conn.Read(buf[len(buf):cap(buf)])
			if err != nil {
				return
			}
			buf = buf[:len(buf)+n]
			if i := bytes.Index(buf, end); i < 0 || len(buf) < i+len(end)+benchBody {
				continue
			}
			buf = buf[:0]
			if _, err := conn.Write(answer); err != nil {
				return
			}
		}
	})
}

// measure runs once on many goroutines and reports the CPU that the process used, the server's
// small share included.
func measure(b *testing.B, once func(ctx context.Context) error) {
	b.Helper()
	b.ReportAllocs()
	b.SetParallelism(16)
	var before, after syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := once(context.Background()); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.StopTimer()
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	used := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(used)/1000/float64(b.N), "cpu-µs/op")
}

func BenchmarkSend(b *testing.B) {
	url := cheapServer(b)
	s := newSender(b, func(o *Options) { o.Transport = loopback(b, nil) })
	r, d := ruleFor(url+"/hooks/openedx?token=abc"), sample(string(make([]byte, benchBody)))
	measure(b, func(ctx context.Context) error {
		a := s.Send(ctx, r, d, 1)
		if !a.OK() {
			return &net.AddrError{Err: "failed", Addr: string(a.Class)}
		}
		return nil
	})
}

// BenchmarkPlainClient is what the same exchange costs with net/http alone, over the same transport
// and with the same header.
func BenchmarkPlainClient(b *testing.B) {
	url := cheapServer(b) + "/hooks/openedx?token=abc"
	client := &http.Client{Transport: loopback(b, nil), Timeout: DefaultTimeout}
	d := sample(string(make([]byte, benchBody)))
	measure(b, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(d.Body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", delivery.FormatJSON.ContentType())
		req.Header.Set("Accept", "text/plain")
		req.Header.Set("User-Agent", "webhook-dispatcher/1.2.3")
		req.Header.Set("Webhook-Id", d.ID.String())
		req.Header.Set("Webhook-Timestamp", strconv.FormatInt(time.Now().Unix(), 10))
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return err
		}
		return resp.Body.Close()
	})
}

// nowhere answers without a network: what is left is the cost of making a request.
var nowhere = roundTrip(func(req *http.Request) (*http.Response, error) {
	_ = req.Body.Close()
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
})

func BenchmarkSendWithoutNetwork(b *testing.B) {
	s := newSender(b, func(o *Options) { o.Transport = nowhere })
	r, d := ruleFor("http://hooks.test/hooks/openedx?token=abc"), sample(string(make([]byte, benchBody)))
	b.ReportAllocs()
	for b.Loop() {
		s.Send(context.Background(), r, d, 1)
	}
}

func BenchmarkPlainClientWithoutNetwork(b *testing.B) {
	client := &http.Client{Transport: nowhere, Timeout: DefaultTimeout}
	body := make([]byte, benchBody)
	b.ReportAllocs()
	for b.Loop() {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://hooks.test/x?token=abc", bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		_ = resp.Body.Close()
	}
}
