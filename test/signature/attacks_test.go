//go:build e2e

package signature

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/pkg/signature"
	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// mac signs like the scheme standard, with any key, id and timestamp.
func mac(key, id, timestamp, body string) string {
	h := hmac.New(sha256.New, []byte(key))
	h.Write([]byte(id + "." + timestamp + "." + body))
	return "v1," + base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// forged returns a request of an attacker who has guessed the key of a receiver with useless
// secrets. The receiver must fail.
func forged(t *testing.T, name, key string, secrets ...string) request {
	t.Helper()
	const body = `{"forged": 1}`
	now := strconv.FormatInt(time.Now().Unix(), 10)
	if secrets == nil {
		secrets = []string{}
	}
	return request{
		Secrets: secrets, Body: []byte(body), name: name, want: failed,
		Headers: map[string]string{"webhook-id": "msg_1", "webhook-timestamp": now, "webhook-signature": mac(key, "msg_1", now, body)},
	}
}

// badSecrets returns forgeries for receivers with missing, weak or malformed secrets.
func badSecrets(t *testing.T) []request {
	t.Helper()
	whsec := func(key string) string { return "whsec_" + base64.StdEncoding.EncodeToString([]byte(key)) }
	const long = "a key with enough bytes in it, and more"
	plain := base64.StdEncoding.EncodeToString([]byte(long))
	return []request{
		forged(t, "no secrets", ""),
		forged(t, "what splitting an empty setting gives", "", ""),
		forged(t, "the prefix alone", "", "whsec_"),
		forged(t, "padding alone", "", "whsec_===="),
		forged(t, "nothing that base64 has", "", "whsec_"+strings.Repeat("%", 40)),
		forged(t, "8 bytes", "password", whsec("password")),
		forged(t, "23 bytes", long[:23], whsec(long[:23])),
		forged(t, "no prefix", long, plain),
		forged(t, "no prefix, and six characters less", "", "secret"),
		forged(t, "the secret's text as key", "whsec_", "whsec_"),
		forged(t, "a public key", long, "whpk_"+plain),
		forged(t, "an empty one behind a good one", "", newSecret, ""),
		forged(t, "a character lost", "", "whsec_"+strings.Repeat("A", 37)),
		forged(t, "half its padding lost", "", "whsec_"+strings.Repeat("A", 38)+"="),
		forged(t, "a padding too many", "", "whsec_"+strings.Repeat("A", 36)+"="),
		forged(t, "two paddings too many", "", "whsec_"+strings.Repeat("A", 43)+"=="),
		forged(t, "a space before", long, " "+whsec(long)),
	}
}

// attacks returns requests that are signed with the receiver's secret but cannot come from the
// dispatcher, and requests that make careless code fail. All must be refused: an attacker who gets
// a 500 can fill the log.
func attacks(t *testing.T) []request {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(newSecret, "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	now := strconv.FormatInt(time.Now().Unix(), 10)
	var list []request
	add := func(name, id, timestamp, body, sign string) {
		list = append(list, request{
			Secrets: []string{newSecret, oldSecret}, Body: []byte(body), name: name, want: refused,
			Headers: map[string]string{"webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": sign},
		})
	}
	for name, timestamp := range map[string]string{
		"400 digits": strings.Repeat("9", 400), "5000 digits": strings.Repeat("9", 5000), "zeros before": "00" + now, "sign": "+" + now,
		"negative": "-" + now, "fraction": now + ".0", "exponent": "1e9", "hexadecimal": fmt.Sprintf("0x%x", time.Now().Unix()),
		"underscore": now[:3] + "_" + now[3:], "Arabic digits": strings.NewReplacer(
			"0", "٠", "1", "١", "2", "٢", "3", "٣", "4", "٤", "5", "٥", "6", "٦", "7", "٧", "8", "٨", "9", "٩").Replace(now),
		"two timestamps": now + "," + now, "infinity": "inf", "no number": "nan",
	} {
		add(name, "msg_1", timestamp, "{}", mac(string(key), "msg_1", timestamp, "{}"))
	}
	// The signed bytes are the same as for the id msg_1 and a body that begins with a time.
	add("bytes that wander from the body into the id", "msg_1."+now, now, "{}", mac(string(key), "msg_1", now, now+".{}"))
	good := mac(string(key), "msg_1", now, "{}")
	for name, sign := range map[string]string{
		"upper case version": strings.ToUpper(good[:2]) + good[2:], "version twice": "v1," + good, "without version": good[3:],
		"something behind": good + "=", "cut": good[:len(good)-1], "not ASCII": "v1,é v1,中", "spaces alone": "v1 v1,  ,",
		"hexadecimal signature": "v1," + fmt.Sprintf("%x", good), "a thousand": strings.Repeat("v1,AAAA ", 1000),
	} {
		add(name, "msg_1", now, "{}", sign)
	}
	return list
}

// ofBody returns requests for receivers of a scheme that signs only the body.
func ofBody(t *testing.T, scheme signature.HMAC) []request {
	t.Helper()
	header := strings.ToLower(scheme.Header)
	signer, err := signature.NewSigner(scheme, "Zoë's", "unused")
	if err != nil {
		t.Fatal(err)
	}
	sign := func(body string) string {
		h := http.Header{}
		if err := signer.Sign(h, "", time.Time{}, []byte(body)); err != nil {
			t.Fatal(err)
		}
		return h.Get(header)
	}
	var list []request
	add := func(name, want, value, body string, secrets ...string) {
		if secrets == nil {
			secrets = []string{}
		}
		list = append(list, request{
			Secrets: secrets, Headers: map[string]string{header: value}, Body: []byte(body), name: name, want: want,
		})
	}
	for name, body := range bodies {
		add("good, "+name, accepted, sign(body), body, "Zoë's")
		add("one of two, "+name, accepted, sign(body), body, "new", "Zoë's")
		add("other, "+name, refused, sign(body), body, "new")
	}
	good := sign("{}")
	digest := strings.TrimPrefix(good, scheme.Prefix)
	for name, value := range map[string]string{
		"another body": sign("{} "), "empty": "", "prefix alone": scheme.Prefix, "no prefix": digest, "something behind": good + "00",
		"cut": good[:len(good)-2], "prefix in another case": strings.ToLower(scheme.Prefix[:1]) + strings.ToUpper(scheme.Prefix[1:]) + digest,
		"not ASCII": scheme.Prefix + "é", "two": good + ", " + good, "no hexadecimal": scheme.Prefix + strings.Repeat("z", 64),
	} {
		add(name, refused, value, "{}", "Zoë's")
	}
	h := hmac.New(sha256.New, nil)
	h.Write([]byte("{}"))
	none := scheme.Prefix + hex.EncodeToString(h.Sum(nil))
	add("no secrets", failed, none, "{}")
	add("an empty secret", failed, none, "{}", "")
	add("an empty one behind a good one", failed, none, "{}", "Zoë's", "")
	list = append(list, request{Secrets: []string{"s"}, Headers: map[string]string{}, Body: []byte{}, name: "no header", want: refused})
	return list
}

// TestOddHeaders passes headers as some frameworks do: lists of values, and text that is not valid.
// They must not make a receiver fail. A list of one value counts as the value.
func TestOddHeaders(t *testing.T) {
	t.Parallel()
	good := signed(t, "good", true, 0, "{}", nil, []string{newSecret}, newSecret)
	public := signed(t, "good", true, 0, "{}", nil, []string{publicKey}, privateKey)
	body := ofBody(t, signature.HMAC{Header: "X-Hub-Signature-256", Prefix: "sha256="})[0]
	python := harness.Python(t)
	for block, r := range map[string]request{
		"javascript": good, "javascript-public": public, "javascript-generic": body, "python": good, "python-sig-hmac": body,
	} {
		t.Run(block, func(t *testing.T) {
			t.Parallel()
			type odd struct {
				Secrets []string       `json:"secrets"`
				Headers map[string]any `json:"headers"`
				Body    []byte         `json:"body"`
			}
			var (
				list []odd
				same []bool
			)
			args := []string{"node", "check.mjs", snippet(t, block, "r.mjs")}
			forms := map[bool]func(value string) any{
				true:  func(value string) any { return []string{value} },
				false: func(value string) any { return []string{value, "x"} },
			}
			if strings.HasPrefix(block, "python") {
				args = []string{python, "check.py", snippet(t, block, "r.py")}
				// Half a surrogate pair is what Python makes of bytes that are not UTF-8.
				forms = map[bool]func(value string) any{
					false: func(value string) any { return json.RawMessage(`"` + value + ` \udce9"`) },
				}
			}
			for isSame, form := range forms {
				for name := range r.Headers {
					o := odd{Secrets: r.Secrets, Headers: map[string]any{}, Body: r.Body}
					for other, value := range r.Headers {
						o.Headers[other] = value
					}
					o.Headers[name] = form(r.Headers[name])
					list, same = append(list, o), append(same, isSame)
				}
			}
			var got []string
			run(t, list, &got, nil, args[0], args[1:]...)
			for i := range list {
				if got[i] == failed || same[i] && got[i] != accepted {
					t.Errorf("%v: %s", list[i].Headers, got[i])
				}
			}
		})
	}
}
