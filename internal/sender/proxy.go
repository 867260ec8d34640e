package sender

import (
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"strconv"
	"syscall"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/egress"
)

const (
	theProxy = "the proxy of " + egress.ProxySetting

	// proxyCredentials explains the status 407, which none but a proxy sends: to a request for a plain http:// URL it comes as the answer.
	proxyCredentials = "a proxy on the way wants other credentials: check user and password in " + egress.ProxySetting
	// proxiedName explains a name that does not resolve where a proxy might have found it.
	proxiedName = "the host name does not exist here: the addresses of endpoints are checked before a request is sent, also with " +
		egress.ProxySetting
)

// isProxy tells whether a request ended on its way to the proxy, or was refused by it: the endpoint has no part in that.
func isProxy(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "proxyconnect"
}

// describeProxy says what is wrong with the proxy, "" where the error is not of the way to one.
func describeProxy(err error) string {
	if !isProxy(err) {
		return ""
	}
	var (
		refusal   *egress.ProxyRefusal
		dns       *net.DNSError
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &refusal) && refusal.Status == http.StatusProxyAuthRequired:
		return theProxy + " wants other credentials: check user and password in its URL"
	case errors.As(err, &refusal):
		return theProxy + " did not connect to the host, and answered with status " + strconv.Itoa(refusal.Status)
	case errors.As(err, &dns) && dns.IsNotFound:
		return theProxy + " has a host name that does not exist"
	case errors.As(err, &authority):
		return theProxy + " has a certificate that is signed by an unknown authority"
	case errors.As(err, &hostname):
		return theProxy + " has a certificate for another host"
	case errors.As(err, &invalid):
		return theProxy + " has a certificate that is not valid"
	case errors.Is(err, http.ErrSchemeMismatch):
		return theProxy + " speaks plain HTTP where its URL says https"
	case errors.Is(err, syscall.ECONNREFUSED):
		return theProxy + " refuses connections"
	}
	return theProxy + " cannot be reached"
}
