package sender

import (
	"net"
	"strings"
	"testing"
	"time"
)

// Nothing secret gets into a log line, whatever goes wrong: the canary stands in path, query,
// userinfo, fragment, body, trace, headers and bodies of answers.
func TestNoLeak(t *testing.T) {
	t.Parallel()
	const canary = "CANARY"
	out := &output{}
	logger := out.logger()
	answers := map[string]func(net.Conn){
		"delivered": func(c net.Conn) { request(c); say(c, ok+"Content-Length: 6\r\nX: CANARY\r\n\r\nCANARY") },
		"failed": func(c net.Conn) {
			request(c)
			say(c, "HTTP/1.1 500 CANARY\r\nContent-Length: 6\r\nX: CANARY\r\n\r\nCANARY")
		},
		"redirect": func(c net.Conn) {
			request(c)
			say(c, "HTTP/1.1 302 CANARY\r\nLocation: http://CANARY:CANARY@h/CANARY?CANARY\r\n\r\n")
		},
		"bad redirect": func(c net.Conn) { request(c); say(c, "HTTP/1.1 307 CANARY\r\nLocation: http://[CANARY\r\n\r\n") },
		"retry later":  func(c net.Conn) { request(c); say(c, "HTTP/1.1 429 CANARY\r\nRetry-After: CANARY\r\n\r\n") },
		"not HTTP":     func(c net.Conn) { request(c); say(c, "CANARY CANARY\r\n\r\n") },
		"bad status":   func(c net.Conn) { request(c); say(c, "HTTP/1.1 CANARY CANARY\r\n\r\n") },
		"bad header":   func(c net.Conn) { request(c); say(c, ok+"CANARY CANARY\r\n\r\n") },
		"bad length":   func(c net.Conn) { request(c); say(c, ok+"Content-Length: CANARY\r\n\r\n") },
		"bad encoding": func(c net.Conn) { request(c); say(c, ok+"Transfer-Encoding: CANARY\r\n\r\n") },
		"bad chunk":    func(c net.Conn) { request(c); say(c, ok+"Transfer-Encoding: chunked\r\n\r\nCANARY\r\n") },
		"reset":        func(c net.Conn) { request(c); reset(c) },
		"silent":       hang,
	}
	urls := map[string]string{
		"scheme": "CANARY://h/CANARY", "port": "http://h:CANARY/", "host": "http://h CANARY/", "control": "http://h/CANARY\x7f",
		"refused": "http://u:CANARY@127.0.0.1:1/CANARY?CANARY", "https": "https://u:CANARY@127.0.0.1:1/CANARY?CANARY",
		"denied": "http://u:CANARY@10.0.0.1/CANARY?CANARY#CANARY", "name": "http://CANARY:CANARY@no-such-name.invalid/CANARY?CANARY",
	}
	for name, handle := range answers {
		urls[name] = strings.Replace(raw(t, handle), "http://", "http://CANARY:CANARY@", 1) + "/CANARY?CANARY=CANARY#CANARY"
	}
	s := newSender(t, func(o *Options) { o.Logger, o.Timeout, o.Guard = logger, 300*time.Millisecond, guard(t, "127.0.0.0/8") })
	id := int32(0)
	for _, url := range urls {
		r := ruleFor(url)
		id++
		r.ID = id
		d := sample(`{"CANARY":"CANARY"}`)
		d.RuleID, d.Traceparent = id, "CANARY"
		s.Send(t.Context(), r, d, 1)
	}
	text := out.String()
	if n := len(out.lines()); n < len(urls) {
		t.Errorf("%d lines for %d attempts: %s", n, len(urls), text)
	}
	for line := range strings.Lines(text) {
		if strings.Contains(line, canary) {
			t.Errorf("leaked: %s", line)
		}
	}
}
