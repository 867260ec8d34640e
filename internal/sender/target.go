package sender

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/egress"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// target is a rule's URL, prepared for requests. It is immutable.
type target struct {
	url           string // without userinfo and fragment, and with the query escaped
	host          string // without port
	base          *url.URL
	authorization string // Basic credentials of the userinfo, or ""
	denied        bool   // the host is itself a denied address
	err           error  // why the URL is unusable, without its text
}

func newTarget(raw string, guard *egress.Guard) *target {
	u, err := rule.ParseURL(raw)
	if err != nil { // never for a compiled rule
		return &target{err: fault(err.Error())}
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

// request returns a POST to the target. All requests share t.base, which must not be changed.
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
	// For a retry on another connection if this one was closed before anything was sent.
	request.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	return request
}

// escape percent-encodes the bytes that a request line cannot contain, and nothing else. url.Parse
// accepts them; net/http would write them to a query unchanged, where a space ends the request
// target, and would re-encode the whole path, which turns %2F into a slash.
func escape(part string) string {
	const hexDigits = "0123456789ABCDEF"
	plain := func(c byte) bool { return c > ' ' && c < 0x7f && strings.IndexByte("\"<>\\^`{|}", c) < 0 }
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

// redirect returns scheme and host of the target of a redirect, or "" if there is none.
func (t *target) redirect(response *http.Response) string {
	kept := response.Header[keptLocation] // Get would allocate for this name, for every answer
	if len(kept) == 0 || kept[0] == "" {
		return ""
	}
	u, err := t.base.Parse(kept[0])
	if err != nil || u.Host == "" || len(u.Host) > 255 || len(u.Scheme) > 16 {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// maxTargets bounds the cache, which is emptied when full. Installations have fewer rules.
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
		c.byURL = make(map[string]*target)
	}
	c.byURL[raw] = t
	return t
}
