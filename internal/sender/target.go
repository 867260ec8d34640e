package sender

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/egress"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// target is a rule's URL made ready to be sent to. It is immutable.
type target struct {
	url           string // without userinfo and fragment, and with a query that fits a request line
	host          string // without port
	base          *url.URL
	authorization string // Basic credentials of the userinfo, or ""
	denied        bool   // the host is itself a denied address
	err           error  // the URL cannot be used; its text holds nothing of the URL
}

var errURL = errors.New("the rule's URL is neither http:// nor https:// with a host, or has a port that is not between 1 and 65535")

func newTarget(raw string, guard *egress.Guard) *target {
	u, err := rule.ParseURL(raw)
	if err != nil { // a rule with such a URL has not been compiled
		return &target{err: errURL}
	}
	t := &target{host: u.Hostname(), base: u}
	if u.User != nil {
		password, _ := u.User.Password()
		t.authorization = "Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password))
		u.User = nil
	}
	u.Fragment, u.RawFragment = "", ""
	u.RawQuery, u.RawPath = escape(u.RawQuery), escape(u.RawPath)
	t.url = u.String()
	t.denied = guard != nil && guard.LiteralDenied(t.host)
	return t
}

// request returns a POST to the target. What it takes from t is shared by all requests, and changed by none.
func (t *target) request(ctx context.Context, header http.Header, body []byte) *http.Request {
	request := (&http.Request{
		Method: http.MethodPost, URL: t.base, Host: t.base.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	request.Header = header
	if len(body) == 0 {
		request.Body = http.NoBody
		return request
	}
	request.ContentLength = int64(len(body))
	request.Body = io.NopCloser(bytes.NewReader(body))
	// For a connection that turns out to be closed before anything was sent, and for HTTP/2.
	request.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	return request
}

// escape escapes the bytes that cannot stand in a request line and leaves all others, escapes among them, as they are. url.Parse
// lets such bytes through; net/http would write them into a query as they are, so that a space ended the request target, and for their
// sake encode a path anew, so that a %2F in it became a slash.
func escape(part string) string {
	const hexDigits = "0123456789ABCDEF"
	plain := func(c byte) bool { return c > ' ' && c < 0x7f && strings.IndexByte("\"<>\\^`{|}", c) < 0 }
	clean := true
	for i := range len(part) {
		clean = clean && plain(part[i])
	}
	if clean {
		return part
	}
	var out strings.Builder
	for i := range len(part) {
		if c := part[i]; plain(c) {
			out.WriteByte(c)
		} else {
			out.WriteByte('%')
			out.WriteByte(hexDigits[c>>4])
			out.WriteByte(hexDigits[c&15])
		}
	}
	return out.String()
}

// redirect returns scheme and host of where a Location header leads, or "" where it says nothing usable.
func (t *target) redirect(location string) string {
	if location == "" {
		return ""
	}
	u, err := t.base.Parse(location)
	if err != nil || u.Host == "" || len(u.Host) > 255 || len(u.Scheme) > 16 {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// maxTargets bounds the cache. Installations have fewer rules; with more, entries are made again.
const maxTargets = 16384

// targets caches targets by URL. The zero value is ready.
type targets struct {
	mu    sync.RWMutex
	byURL map[string]*target // guarded by mu
}

func (c *targets) get(raw string, guard *egress.Guard) *target {
	c.mu.RLock()
	t := c.byURL[raw]
	c.mu.RUnlock()
	if t != nil {
		return t
	}
	t = newTarget(raw, guard)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byURL == nil || len(c.byURL) >= maxTargets {
		// URLs of rules that are gone would stay for good otherwise.
		c.byURL = make(map[string]*target)
	}
	c.byURL[raw] = t
	return t
}
