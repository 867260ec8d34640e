package cli

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/sender"
)

// testView is what rules test shows.
type testView struct {
	Wanted  bool         `json:"wanted"`           // false: the rule's filter leaves the event out
	Request *requestView `json:"request"`          // null where the event is left out
	Result  *resultView  `json:"result,omitempty"` // of --send
}

type requestView struct {
	Method  string       `json:"method"`
	URL     string       `json:"url"` // scheme and host unless whole URLs were asked for
	Headers []headerView `json:"headers"`
	Body    string       `json:"body"`
	// ClientCert is the subject of the client certificate.
	ClientCert string `json:"client_cert,omitempty"`
}

type headerView struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type resultView struct {
	OK     bool   `json:"ok"`
	Status int    `json:"status"` // 0 where no answer came
	Error  string `json:"error"`  // why none came, or not all of it, or ""
	Detail string `json:"detail"` // more about that, or ""
	// TokenServer is scheme and host of the authorization server where the error is about it.
	TokenServer string `json:"token_server,omitempty"`
	DurationMS  int64  `json:"duration_ms"`
	Response    string `json:"response"` // the beginning of the answer's body
	*filterAnswer
}

// maxShown is how many bytes of an answer are shown.
const maxShown = 1024

func viewOf(a *delivery.Attempt) *resultView {
	return &resultView{
		OK: a.OK(), Status: a.Status, Error: string(a.Class), DurationMS: a.Duration.Milliseconds(),
		Response: responseOf(a.Response),
	}
}

// because adds what the sender knows about a failure, and returns the view.
func (v *resultView) because(err error) *resultView {
	if failed, ok := errors.AsType[*sender.CallError](err); ok {
		v.Detail, v.TokenServer = failed.Detail, failed.TokenServer
	}
	return v
}

// advice says more about an error: what the sender knows, or else what an operator can do.
func (v *resultView) advice() string {
	switch class := delivery.ErrorClass(v.Error); {
	case v.Detail != "":
		return " (" + printable(v.Detail) + ")"
	case class == delivery.ClassEgress:
		return " (the address is not allowed; see WEBHOOK_DISPATCHER_EGRESS_ALLOW)"
	case class == delivery.ClassToken:
		return " (the authorization server gave no access token; check the options of auth oauth2)"
	}
	return ""
}

func (p *Process) printTest(v *testView, asJSON bool) error {
	if asJSON {
		return p.printJSON(v)
	}
	if !v.Wanted {
		_, err := fmt.Fprintln(p.Stdout, "the rule's filter leaves this event out: nothing is sent")
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", v.Request.Method, v.Request.URL)
	for _, h := range v.Request.Headers {
		fmt.Fprintf(&b, "%s: %s\n", h.Name, h.Value)
	}
	fmt.Fprintf(&b, "\n%s\n", v.Request.Body)
	if v.Request.ClientCert != "" {
		fmt.Fprintf(&b, "\nclient certificate: %s\n", printable(v.Request.ClientCert))
	}
	if r := v.Result; r != nil {
		took := time.Duration(r.DurationMS) * time.Millisecond
		switch {
		case r.Error == "":
			fmt.Fprintf(&b, "\nanswer: %d after %s\n", r.Status, took)
		case r.Status != 0:
			fmt.Fprintf(&b, "\nanswer: %d, broken off after %s: %s%s\n", r.Status, took, r.Error, r.advice())
		default:
			fmt.Fprintf(&b, "\nno answer: %s after %s%s\n", r.Error, took, r.advice())
		}
		if r.TokenServer != "" {
			fmt.Fprintf(&b, "authorization server: %s\n", printable(r.TokenServer))
		}
		if r.Response != "" {
			fmt.Fprintln(&b, printable(r.Response))
		}
		b.WriteString(r.said())
	}
	_, err := p.Stdout.Write([]byte(b.String()))
	return err
}

// printable keeps a stranger's text from driving the terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, text)
}
