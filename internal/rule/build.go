package rule

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/expression"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/suggest"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/signature"
)

// Bounds of options.
const (
	minTimeout     = 100 * time.Millisecond
	maxTimeout     = 10 * time.Minute
	maxConcurrency = 65536
	maxRate        = 1_000_000
	maxRetries     = 50
)

// build takes over what the options say and no secret has a part in.
func (r *Rule) build(o *Document) error {
	shape, err := payload.ParseShape(o.Shape)
	if err != nil {
		return err
	}
	if shape != payload.ShapePlugin && r.Format == delivery.FormatForm {
		return fmt.Errorf("the shape %s is JSON, and the row asks for form fields: choose one of the two", shape)
	}
	if r.Shape = shape; shape == payload.ShapeCloudEvents {
		r.Format = delivery.FormatCloudEvents
	}
	return cmp.Or(r.compile(o), r.limit(o))
}

func (r *Rule) compile(o *Document) (err error) {
	var params payload.Value
	if len(o.Params) > 0 {
		if params, err = payload.ParseJSON(o.Params); err != nil || params.Kind() != payload.Object {
			return errors.New("params is not a JSON object: write one such as {\"name\": \"value\"}")
		}
	}
	if o.Filter != "" {
		if r.Filter, err = expression.Compile(o.Filter, params); err != nil {
			return fmt.Errorf("the filter: %w", err)
		}
	}
	if o.Transform != "" {
		if r.Transform, err = expression.Compile(o.Transform, params); err != nil {
			return fmt.Errorf("the transform: %w", err)
		}
	}
	return nil
}

func (r *Rule) limit(o *Document) error {
	timeout := time.Duration(o.Timeout)
	switch {
	case timeout != 0 && (timeout < minTimeout || timeout > maxTimeout):
		return fmt.Errorf("the timeout %s is out of range: write %s to %s", timeout, minTimeout, maxTimeout)
	case o.Concurrency < 0 || o.Concurrency > maxConcurrency:
		return fmt.Errorf("the concurrency %d is out of range: write 1 to %d", o.Concurrency, maxConcurrency)
	case o.Rate != 0 && (o.Rate < delivery.MinRate || o.Rate > maxRate):
		return fmt.Errorf("the rate %g is out of range: write %g to %d requests a second", o.Rate, delivery.MinRate, maxRate)
	case len(o.RetrySchedule) > maxRetries:
		return fmt.Errorf("the retry schedule has %d delays: write %d at most", len(o.RetrySchedule), maxRetries)
	}
	r.Limits = Limits{Concurrency: o.Concurrency, Rate: o.Rate, Timeout: timeout}
	for _, d := range o.RetrySchedule {
		delay := time.Duration(d)
		if delay <= 0 || delay > delivery.MaxRetryDelay {
			return fmt.Errorf("the delay %s of the retry schedule is out of range: write delays above 0s and up to %.0fh",
				delay, delivery.MaxRetryDelay.Hours())
		}
		r.Limits.RetrySchedule = append(r.Limits.RetrySchedule, delay)
	}
	return nil
}

// opened is a stored option as it could be read.
type opened struct {
	document Document
	unread   error // why the document cannot be read; then it has what concerns matching, as far as that can be read
	secrets  Secrets
	shut     error // why the secrets cannot be used
}

// open reads the option of a rule, which may be nil.
func (c *Compiler) open(key Key, row *Row, option *Option) (o opened) {
	if option == nil {
		return o
	}
	if o.document, o.unread = ParseDocument(option.Document); o.unread != nil {
		o.document = matching(option.Document)
		return o
	}
	o.secrets, o.shut = option.OpenSecrets(c.Opener)
	if o.shut == nil && !o.secrets.Empty() && URLSum(row.URL) != option.URLSum {
		o.shut = fmt.Errorf("its URL was changed, and it has secrets: if the new URL is right, run rules set %s --confirm-url", key.Arguments())
	}
	return o
}

// OpenSecrets opens the secrets of a rule. The text of an error may be shown and logged.
func (o *Option) OpenSecrets(opener Opener) (Secrets, error) {
	if o.Sealed == "" {
		return Secrets{}, nil
	}
	if opener == nil {
		return Secrets{}, fmt.Errorf("its secrets cannot be opened: %s is not set, and they need its key %q",
			keySetting, suggest.Clip(o.KeyID, 60))
	}
	text, err := opener.Open(o.Key, SecretsField, o.KeyID, []byte(o.Sealed))
	if err != nil {
		return Secrets{}, fmt.Errorf("its secrets cannot be opened: %w", err)
	}
	return ParseSecrets(text)
}

// authorize makes the rule's access of options and secrets.
func (r *Rule) authorize(c *Compiler, o *opened) error {
	if o.shut != nil {
		return o.shut
	}
	access, err := NewAccess(&o.document, &o.secrets)
	claims := access != nil && access.claims() > 0
	switch {
	case err != nil:
		return err
	case claims && hasCredentials(r.URL):
		return errors.New("its URL has credentials in it, and its options need the same header, Authorization: take them out of one of the two")
	case claims && !access.Unsigned && len(access.Signings) == 0 && c.signsAuthorization():
		return fmt.Errorf("auth or headers set the header Authorization, where WEBHOOK_DISPATCHER_SIGNING_SCHEME=%s puts its signature: "+
			"give the rule a scheme of its own, such as --scheme none, or leave auth and the header out", c.Scheme)
	}
	r.Access = access
	return nil
}

// signsAuthorization reports whether the scheme of the settings puts its signature into the header Authorization.
func (c *Compiler) signsAuthorization() bool {
	scheme, signs := signature.Named(c.Scheme)
	return signs && signatureHeader(scheme) == authorization
}
