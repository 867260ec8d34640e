package sender

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/egress"
)

// streamError has the fields of net/http's unexported HTTP/2 stream error, whose As method converts
// to any such struct.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (streamError) Error() string { return "HTTP/2 stream error" }

// classify maps an error to a class by type. caller is the context passed to Send, exchange the one
// with the deadline.
func classify(caller, exchange context.Context, err error) delivery.ErrorClass {
	var (
		dns *net.DNSError
		op  *net.OpError
	)
	switch {
	case egress.IsDenied(err):
		return delivery.ClassEgress
	case errors.Is(caller.Err(), context.Canceled):
		return delivery.ClassCancelled
	case exchange.Err() != nil:
		return delivery.ClassTimeout
	case isProxy(err): // its name and certificate are not the endpoint's
		return delivery.ClassConnect
	case errors.As(err, &dns):
		return delivery.ClassDNS
	case isTLS(err):
		return delivery.ClassTLS
	case errors.As(err, &op) && op.Op == "dial":
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
	var failed *tokenError
	switch {
	case errors.As(err, &failed) && failed.denied:
		return delivery.ClassEgress
	case errors.Is(caller.Err(), context.Canceled):
		return delivery.ClassCancelled
	}
	return delivery.ClassToken
}

func isTLS(err error) bool {
	var (
		verification *tls.CertificateVerificationError
		record       tls.RecordHeaderError
		op           *net.OpError
	)
	if errors.As(err, &verification) || errors.As(err, &record) || errors.Is(err, http.ErrSchemeMismatch) {
		return true
	}
	// The type of alerts is not exported; crypto/tls reports them under these operations.
	return errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error")
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

func isReset(err error) bool {
	var stream streamError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNABORTED) ||
		errors.As(err, &stream)
}

// detailOf explains the result of an attempt; it may return "".
func detailOf(a *delivery.Attempt, cause error) string {
	if cause == nil && a.Status == http.StatusProxyAuthRequired {
		return proxyCredentials
	}
	return describe(cause)
}

// describe explains an error in our words, as its own text may contain addresses, URLs and what the
// endpoint sent. It may return "".
func describe(err error) string {
	var (
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
		dns       *net.DNSError
		token     *tokenError
	)
	for _, own := range []error{errURL, errHeader, errAuthorization, errSign, errCertificate, errNoStatus, errTooLong} {
		if errors.Is(err, own) {
			return own.Error()
		}
	}
	if text := describeProxy(err); text != "" {
		return text
	}
	if text := refusal(err); text != "" {
		return text
	}
	switch {
	case errors.As(err, &token):
		return token.Error()
	case egress.IsDenied(err):
		return "the endpoint is not at an allowed address; to allow it, add its CIDR block to " + egress.Setting
	case errors.As(err, &authority):
		return "the certificate is signed by an unknown authority"
	case errors.As(err, &hostname):
		return "the certificate is for another host"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the certificate has expired or is not yet valid"
	case errors.As(err, &invalid):
		return "the certificate is not valid"
	case errors.Is(err, http.ErrSchemeMismatch):
		return "the endpoint speaks plain HTTP where the URL says https"
	case errors.As(err, &dns) && dns.IsNotFound && errors.Is(err, egress.ErrProxiedName):
		return proxiedName
	case errors.As(err, &dns) && dns.IsNotFound:
		return "the host name does not exist"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "the connection was refused"
	}
	return ""
}

// refusal explains why the endpoint refused a TLS connection, "" if it did not or gave no helpful
// reason. Alerts have no exported type except that of QUIC, which has the same text.
func refusal(err error) string {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" {
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
