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

	// proxyCredentials explains the status 407, which a proxy returns as the answer if the URL is
	// http://.
	proxyCredentials = "a proxy requires other credentials: check user and password in " + egress.ProxySetting
	// proxiedName explains a name that does not resolve here, though the proxy might resolve it.
	proxiedName = "the host name does not exist here: the addresses of endpoints are checked before a request is sent, also with " +
		egress.ProxySetting
)

// isProxy reports whether a request failed at the proxy, before it reached the endpoint.
func isProxy(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "proxyconnect"
}

// describeProxy explains an error of the proxy, "" if it is another error.
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
		return theProxy + " requires other credentials: check user and password in its URL"
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
