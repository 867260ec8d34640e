package decode

import (
	"errors"
	"strings"
)

// Reason is why a record can never be read, from a bounded set: it is a metric label and a column.
type Reason string

// The reasons.
const (
	ReasonNoType         Reason = "no_type"         // no ce_type header, or an empty one
	ReasonNoID           Reason = "no_id"           // no ce_id header, or an empty one
	ReasonRepeatedHeader Reason = "repeated_header" // a header of the envelope appears more than once
	ReasonBadHeader      Reason = "bad_header"      // a header of the envelope cannot be read
	ReasonNullValue      Reason = "null_value"      // the record has no value
	ReasonBadMagic       Reason = "bad_magic"       // the value does not begin with a zero byte and a schema id
	ReasonUnknownSchema  Reason = "unknown_schema"  // the registry says that the schema id does not exist
	ReasonBadSchema      Reason = "bad_schema"      // the writer schema is not a usable Avro record
	ReasonCorrupt        Reason = "corrupt"         // the value does not fit its schema
	ReasonTrailingBytes  Reason = "trailing_bytes"  // there are bytes after the value
	ReasonInvalidUTF8    Reason = "invalid_utf8"    // a text in the value is not UTF-8
	ReasonTooLarge       Reason = "too_large"       // the value would take too much memory
)

// Reasons returns all reasons, for metrics that start at zero.
func Reasons() []Reason {
	return []Reason{
		ReasonNoType, ReasonNoID, ReasonRepeatedHeader, ReasonBadHeader, ReasonNullValue, ReasonBadMagic, ReasonUnknownSchema,
		ReasonBadSchema, ReasonCorrupt, ReasonTrailingBytes, ReasonInvalidUTF8, ReasonTooLarge,
	}
}

// Undecodable is the error of a record that can never be read, however often it is tried. Every
// other error of a Decoder means that the caller's context ended.
type Undecodable struct {
	Reason Reason
	Detail string // for people: names of headers and fields, offsets, and none of the record's data
}

// Error returns reason and detail.
func (u *Undecodable) Error() string {
	return strings.TrimSuffix("undecodable record: "+string(u.Reason)+": "+u.Detail, ": ")
}

// AsUndecodable returns the Undecodable in err's chain.
func AsUndecodable(err error) (*Undecodable, bool) { return errors.AsType[*Undecodable](err) }

// maxDetail bounds a detail in bytes: the names in it come from schemas, which may hold any text.
const maxDetail = 200

// NewUndecodable returns an error whose detail is cut to 200 bytes.
func NewUndecodable(reason Reason, detail string) *Undecodable {
	if len(detail) > maxDetail {
		detail = strings.ToValidUTF8(detail[:maxDetail], "") + "…"
	}
	return &Undecodable{Reason: reason, Detail: detail}
}
