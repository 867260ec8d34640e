package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// receive answers as the path asks for.
func receive(w http.ResponseWriter, r *http.Request) {
	const token = "t0k3n-of-the-authorization-server"
	switch r.URL.Path {
	case "/token":
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token": %q, "token_type": "Bearer", "expires_in": 3600}`, token)
		return
	case "/guarded":
		if r.Header.Get("Authorization") != "Bearer "+token {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
	case "/filter":
		fmt.Fprint(w, `{"data": {"mode": "audit\u001b[31m"}, "exception": {"PreventEnrollment": "no"}, "other": 1}`)
		return
	case "/no":
		w.WriteHeader(http.StatusTeapot)
	}
	fmt.Fprintf(w, "got %s %s\x1b[31m", r.Header.Get("Content-Type"), r.Header.Get("Webhook-Id"))
}

// writeCertificate writes a client certificate, cert.pem, one that was good once, old.pem, and
// their key, key.pem.
func writeCertificate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "lms.example.org"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Date(2049, time.December, 31, 0, 0, 0, 0, time.UTC),
	}
	for name, ends := range map[string]time.Time{"cert.pem": template.NotAfter, "old.pem": time.Now().Add(-time.Minute)} {
		template.NotAfter = ends
		certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			return err
		}
		if err := writePEM(filepath.Join(dir, name), "CERTIFICATE", certificate); err != nil {
			return err
		}
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(filepath.Join(dir, "key.pem"), "EC PRIVATE KEY", raw)
}

func writePEM(path, kind string, raw []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}), 0o600)
}
