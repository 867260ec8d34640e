package rule

import (
	"fmt"
	"maps"
	"net/textproto"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/suggest"
)

// Bounds of a rule's own headers.
const (
	maxHeaders     = 32
	maxHeaderBytes = 8 << 10 // of one value
)

// reservedHeaders are set by the dispatcher or by HTTP itself. Those that begin with one of reservedPrefixes are reserved as well.
var (
	reservedHeaders = [...]string{
		"Accept-Encoding", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Host", "Http2-Settings",
		"Keep-Alive", "Te", "Traceparent", "Trailer", "Transfer-Encoding", "Upgrade",
	}
	reservedPrefixes = [...]string{"Proxy-", "Webhook-"}
	// replayHeaders make net/http take a POST for one that may be repeated: it would send it again by itself where a connection breaks off,
	// and one attempt would be several requests, of which the log and the endpoint's limits know one.
	replayHeaders = [...]string{"Idempotency-Key", "X-Idempotency-Key"}
)

// CheckHeader says what keeps a header from being a rule's own. The error holds the name, and not the value.
func CheckHeader(name, value string) error {
	canonical := textproto.CanonicalMIMEHeaderKey(name)
	reserved := slices.Contains(reservedHeaders[:], canonical) ||
		slices.ContainsFunc(reservedPrefixes[:], func(prefix string) bool { return strings.HasPrefix(canonical, prefix) })
	switch {
	case !httpguts.ValidHeaderFieldName(name) || len(name) > maxHeaderBytes:
		return fmt.Errorf("%q cannot be the name of a header", suggest.Clip(name, 60))
	case reserved:
		return fmt.Errorf("the header %s is reserved: the dispatcher or HTTP itself sets it", canonical)
	case slices.Contains(replayHeaders[:], canonical):
		return fmt.Errorf("the header %s is reserved: with it, one attempt could become several requests; "+
			"receivers tell repeats apart by webhook-id", canonical)
	case value == "":
		return fmt.Errorf("the header %s has no value: give it one", canonical)
	case len(value) > maxHeaderBytes:
		return fmt.Errorf("the value of the header %s has %d bytes: write %d at most", canonical, len(value), maxHeaderBytes)
	case !httpguts.ValidHeaderFieldValue(value) || strings.TrimSpace(value) != value:
		return fmt.Errorf("the value of the header %s has a control character in it, or spaces around it: write it without", canonical)
	}
	return nil
}

// headers takes over those that are open and those that are secret. The order is fixed, so that the same options have the same error.
func (a *Access) headers(open, secret map[string]string) error {
	n := len(open) + len(secret)
	if n == 0 {
		return nil
	}
	if n > maxHeaders {
		return fmt.Errorf("there are %d headers: give %d at most", n, maxHeaders)
	}
	a.Header = make(map[string]string, n)
	for _, headers := range [...]map[string]string{open, secret} {
		for _, name := range slices.Sorted(maps.Keys(headers)) {
			value := headers[name]
			if err := CheckHeader(name, value); err != nil {
				return err
			}
			canonical := textproto.CanonicalMIMEHeaderKey(name)
			if _, twice := a.Header[canonical]; twice {
				return fmt.Errorf("the header %s is there twice: give it once", canonical)
			}
			a.Header[canonical] = value
		}
	}
	return nil
}
