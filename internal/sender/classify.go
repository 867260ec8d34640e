package sender

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"syscall"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/egress"
)

// fault is an error of ours. Its text may be logged and shown.
type fault string

func (f fault) Error() string { return string(f) }

// streamError has the fields of net/http's unexported HTTP/2 stream error, whose As method converts
// to any such struct.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (streamError) Error() string { return "HTTP/2 stream error" }

// is reports whether err is or wraps an E.
func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// failedAt reports whether one of these operations of package net failed.
func failedAt(err error, operations ...string) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && slices.Contains(operations, op.Op)
}

// isProxy reports whether a request failed at the proxy, before it reached the endpoint.
func isProxy(err error) bool { return failedAt(err, "proxyconnect") }

// classify maps an error to a class by type. caller is the context passed to Send, exchange the one
// with the deadline.
func classify(caller, exchange context.Context, err error) delivery.ErrorClass {
	switch {
	case errors.Is(err, errTooLong):
		return delivery.ClassProtocol
	case egress.IsDenied(err):
		return delivery.ClassEgress
	case errors.Is(caller.Err(), context.Canceled):
		return delivery.ClassCancelled
	case exchange.Err() != nil:
		return delivery.ClassTimeout
	case isProxy(err): // its name and certificate are not the endpoint's
		return delivery.ClassConnect
	case is[*net.DNSError](err):
		return delivery.ClassDNS
	case isTLS(err):
		return delivery.ClassTLS
	case failedAt(err, "dial"):
		return delivery.ClassConnect
	case isTimeout(err):
		return delivery.ClassTimeout
	case isReset(err):
		return delivery.ClassReset
	}
	// The errors of net/http's parsers have no type; no others are left.
	return delivery.ClassProtocol
}

// classifyToken is classify for token calls.
func classifyToken(caller context.Context, err error) delivery.ErrorClass {
	switch {
	case errors.Is(err, errTokenDenied):
		return delivery.ClassEgress
	case errors.Is(caller.Err(), context.Canceled):
		return delivery.ClassCancelled
	}
	return delivery.ClassToken
}

func isTLS(err error) bool {
	// The type of alerts is not exported; crypto/tls reports them under these operations.
	return is[*tls.CertificateVerificationError](err) || is[tls.RecordHeaderError](err) || errors.Is(err, http.ErrSchemeMismatch) ||
		failedAt(err, "remote error", "local error")
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

func isReset(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNABORTED) ||
		is[streamError](err)
}

// connectionFaults are why there is no connection to an endpoint or to the proxy. The first that
// fits counts.
var connectionFaults = []struct {
	fits            func(error) bool
	endpoint, proxy string
}{
	{noSuchHost, "the host name does not exist", "has a host name that does not exist"},
	{
		is[x509.UnknownAuthorityError],
		"the certificate is signed by an unknown authority", "has a certificate that is signed by an unknown authority",
	},
	{is[x509.HostnameError], "the certificate is for another host", "has a certificate for another host"},
	{expired, "the certificate has expired or is not yet valid", "has a certificate that has expired or is not yet valid"},
	{is[x509.CertificateInvalidError], "the certificate is not valid", "has a certificate that is not valid"},
	{
		func(err error) bool { return errors.Is(err, http.ErrSchemeMismatch) },
		"the endpoint speaks plain HTTP where the URL says https", "speaks plain HTTP where its URL says https",
	},
	{func(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }, "the connection was refused", "refuses connections"},
}

func noSuchHost(err error) bool {
	dns, ok := errors.AsType[*net.DNSError](err)
	return ok && dns.IsNotFound
}

func expired(err error) bool {
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	return ok && invalid.Reason == x509.Expired
}

// detailOf explains the result of an attempt; it may return "".
func detailOf(a *delivery.Attempt, cause error) string {
	if cause == nil && a.Status == http.StatusProxyAuthRequired { // so a proxy answers if the URL is http://
		return "a proxy requires other credentials: check user and password in " + egress.ProxySetting
	}
	return describe(cause)
}

// describe explains an error in our words, as its own text may contain addresses, URLs and what the
// endpoint sent. It may return "".
func describe(err error) string {
	if own, ok := errors.AsType[fault](err); ok {
		return own.Error()
	}
	if text := cmp.Or(describeProxy(err), refusal(err)); text != "" {
		return text
	}
	if token, ok := errors.AsType[tokenError](err); ok {
		return token.Error()
	}
	switch {
	case egress.IsDenied(err):
		return "the endpoint is not at an allowed address; to allow it, add its CIDR block to " + egress.Setting
	case errors.Is(err, egress.ErrProxiedName) && noSuchHost(err): // the proxy might resolve it
		return "the host name does not exist here: the addresses of endpoints are checked before a request is sent, also with " +
			egress.ProxySetting
	}
	for _, f := range connectionFaults {
		if f.fits(err) {
			return f.endpoint
		}
	}
	return ""
}

const theProxy = "the proxy of " + egress.ProxySetting

// describeProxy explains an error of the proxy, "" if it is another error.
func describeProxy(err error) string {
	if !isProxy(err) {
		return ""
	}
	if refusal, ok := errors.AsType[*egress.ProxyRefusal](err); ok {
		if refusal.Status == http.StatusProxyAuthRequired {
			return theProxy + " requires other credentials: check user and password in its URL"
		}
		return theProxy + " did not connect to the host, and answered with status " + strconv.Itoa(refusal.Status)
	}
	for _, f := range connectionFaults {
		if f.fits(err) {
			return theProxy + " " + f.proxy
		}
	}
	return theProxy + " cannot be reached"
}

// refusal explains why the endpoint refused a TLS connection, "" if it did not or gave no helpful
// reason. Alerts have no exported type except that of QUIC, which has the same text.
func refusal(err error) string {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "remote error" {
		return ""
	}
	switch op.Err.Error() {
	case tls.AlertError(116).Error(): // certificate_required
		return "the endpoint requires a client certificate, and the rule has none: give it one"
	case tls.AlertError(40).Error(): // handshake_failure: the same in TLS 1.2
		return "the endpoint broke off the handshake: it requires a client certificate and the rule has none, or its TLS is too old"
	case tls.AlertError(42).Error(), tls.AlertError(43).Error(), tls.AlertError(46).Error(): // bad, unsupported, unknown certificate
		return "the endpoint requires a client certificate: the rule has none, or one that the endpoint refuses"
	case tls.AlertError(44).Error(), tls.AlertError(45).Error(): // certificate revoked, expired
		return "the endpoint refuses the rule's client certificate, because it has expired or was revoked: give the rule a new one"
	case tls.AlertError(48).Error(): // unknown_ca
		return "the endpoint refuses the rule's client certificate, because it does not know who issued it"
	}
	return ""
}
