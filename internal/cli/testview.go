package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// advice says more about an error: what the sender knows, or else what an operator can do.
func advice(v *admin.ResultView) string {
	switch class := delivery.ErrorClass(v.Error); {
	case v.Detail != "":
		return " (" + admin.Printable(v.Detail) + ")"
	case class == delivery.ClassEgress:
		return " (the address is not allowed; see WEBHOOK_DISPATCHER_EGRESS_ALLOW)"
	case class == delivery.ClassToken:
		return " (the authorization server gave no access token; check the options of auth oauth2)"
	}
	return ""
}

func (p *Process) printTest(v *admin.TestView, asJSON bool) error {
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
		fmt.Fprintf(&b, "\nclient certificate: %s\n", admin.Printable(v.Request.ClientCert))
	}
	if r := v.Result; r != nil {
		took := time.Duration(r.DurationMS) * time.Millisecond
		switch {
		case r.Error == "":
			fmt.Fprintf(&b, "\nanswer: %d after %s\n", r.Status, took)
		case r.Status != 0:
			fmt.Fprintf(&b, "\nanswer: %d, broken off after %s: %s%s\n", r.Status, took, r.Error, advice(r))
		default:
			fmt.Fprintf(&b, "\nno answer: %s after %s%s\n", r.Error, took, advice(r))
		}
		if r.TokenServer != "" {
			fmt.Fprintf(&b, "authorization server: %s\n", admin.Printable(r.TokenServer))
		}
		if r.Response != "" {
			fmt.Fprintln(&b, admin.Printable(r.Response))
		}
		b.WriteString(said(r.FilterAnswer))
	}
	_, err := p.Stdout.Write([]byte(b.String()))
	return err
}

// said is the answer in lines, "" for a webhook and where nothing counts.
func said(v *admin.FilterAnswer) string {
	if v == nil {
		return ""
	}
	var b strings.Builder
	for _, part := range [...]struct {
		name string
		json []byte
	}{{"data", v.Data}, {"exception", v.Exception}} {
		if part.json != nil {
			fmt.Fprintf(&b, "%s: %s\n", part.name, admin.Printable(string(part.json)))
		}
	}
	if v.Halts != "" {
		fmt.Fprintf(&b, "the chain stops here: %s\n", v.Halts)
	}
	return b.String()
}
