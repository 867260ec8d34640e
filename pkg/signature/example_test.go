package signature_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/pkg/signature"
)

// A receiver: an HTTP handler that takes what its sender signed, and nothing else.
func Example_receiver() {
	// While a secret is being replaced, give both.
	verifier, err := signature.NewVerifier(signature.Standard{}, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		fmt.Println(err)
		return
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 8<<20))
		if err != nil {
			http.Error(w, "the body cannot be read", http.StatusBadRequest)
			return
		}
		if err := verifier.Verify(r.Header, body); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		// Now it can be parsed. Drop it if r.Header.Get("webhook-id") was there before.
		w.WriteHeader(http.StatusNoContent)
	})

	request := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`{"test": 2432232314}`))
	request.Header.Set("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
	request.Header.Set("webhook-timestamp", "1614265330")
	request.Header.Set("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, request)
	fmt.Println(answer.Code) // the signature is right, and years old
	// Output: 401
}

// A sender signs what it is about to send.
func Example_sender() {
	signer, err := signature.NewSigner(signature.Standard{}, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		fmt.Println(err)
		return
	}
	body := []byte(`{"test": 2432232314}`)
	header := http.Header{"Content-Type": {"application/json"}}
	if err := signer.Sign(header, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), body); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(header.Get("webhook-id"))
	fmt.Println(header.Get("webhook-timestamp"))
	fmt.Println(header.Get("webhook-signature"))
	// Output:
	// msg_p5jXN8AQM9LWM0D4loKWxJek
	// 1614265330
	// v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=
}

// A public key verifies and cannot sign; the clock is that of a test.
func ExampleNewVerifier() {
	then := time.Unix(1614265330, 0)
	signer, err := signature.NewSigner(signature.Standard{}, "whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk=")
	if err != nil {
		fmt.Println(err)
		return
	}
	header, body := http.Header{}, []byte(`{"test": 2432232314}`)
	if err := signer.Sign(header, "msg_p5jXN8AQM9LWM0D4loKWxJek", then, body); err != nil {
		fmt.Println(err)
		return
	}
	verifier, err := signature.NewVerifier(signature.Standard{
		Tolerance: time.Minute,
		Now:       func() time.Time { return then.Add(30 * time.Second) },
	}, "whpk_ZlN4eg7dSSqi0moX9hQUk3orrOouK3QVQSlJa248c/g=")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(verifier.Verify(header, body))
	err = verifier.Verify(header, []byte(`{"test": 1}`))
	fmt.Println(errors.Is(err, signature.ErrMismatch))
	// Output:
	// <nil>
	// true
}

// A receiver of the HMAC that many services use for the body alone.
func ExampleHMAC() {
	scheme := signature.HMAC{Header: "X-Hub-Signature-256", Prefix: "sha256="}
	signer, err := signature.NewSigner(scheme, "It's a Secret to Everybody")
	if err != nil {
		fmt.Println(err)
		return
	}
	header := http.Header{}
	if err := signer.Sign(header, "", time.Time{}, []byte("Hello, World!")); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(header.Get("X-Hub-Signature-256"))
	// Output: sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17
}
