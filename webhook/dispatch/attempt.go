package dispatch

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/printable"
)

// Attempt is the result of sending a delivery once.
type Attempt struct {
	Status     int           // HTTP status; 0: there was no response
	RetryAfter time.Duration // what the endpoint requests by Retry-After; 0: nothing
	Err        error         // why there was no response; never with a secret
	Duration   time.Duration
	// Decided is the outcome if neither Status nor Err decides it. The zero value is none.
	// Delivered without a Status means that the task needed no request.
	Decided Outcome
	Detail  string // why the attempt failed, in place of the status; never with a secret
}

// unneeded reports whether the task was carried out without a request: the endpoint's state
// remains unknown.
func (a Attempt) unneeded() bool { return a.Decided == Delivered && a.Status == 0 }

// Outcome is the meaning of an attempt. The zero value is a failure.
type Outcome uint8

// The outcomes.
const (
	Failed    Outcome = iota // the endpoint failed: sent again within its time budget
	Delivered                // 2xx
	Rejected                 // the endpoint rejects this delivery, not others: sent again a few times
	Gone                     // 410: not sent again
)

var outcomeNames = [...]string{Failed: "failed", Delivered: "delivered", Rejected: "rejected", Gone: "gone"}

// String returns the outcome as metrics and logs name it.
func (o Outcome) String() string { return outcomeNames[o] }

// Outcomes returns the names of all outcomes.
func Outcomes() []string { return outcomeNames[:] }

// Outcome returns the meaning of the attempt. Only 2xx is a success, and a redirect is a
// failure (Standard Webhooks 1.0.0, "Delivery success and failure"). A status by which an
// endpoint judges the content ends after few attempts, because the deliveries of the same
// repository wait behind this one. Statuses that depend on the endpoint's own state (401,
// 403, 404 of a gateway in front of it, 5xx) are repeated for the whole budget.
func (a Attempt) Outcome() Outcome {
	switch {
	case a.Err != nil:
		return Failed
	case a.Decided != Failed:
		return a.Decided
	case 200 <= a.Status && a.Status <= 299:
		return Delivered
	}
	switch a.Status {
	case http.StatusGone:
		return Gone
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType,
		http.StatusUnprocessableEntity, http.StatusRequestHeaderFieldsTooLarge:
		return Rejected
	}
	return Failed
}

// Cause describes a failed attempt for operators, without a secret and in at most 300
// bytes.
func (a Attempt) Cause() string {
	text := a.Detail
	switch {
	case a.Err != nil:
		text = a.Err.Error()
	case text == "":
		return "the endpoint responded with status " + strconv.Itoa(a.Status)
	}
	if !printable.IsClean(text) {
		text = printable.Quote(text)
	}
	const maxCause = 300
	if len(text) > maxCause {
		text = strings.ToValidUTF8(text[:maxCause], "")
	}
	return text
}

// parseRetryAfter reads a Retry-After field: seconds or a date (RFC 9110 section 10.2.3).
// It returns 0 for any other value, and for a time that has passed.
func parseRetryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// redact removes the endpoint's path and query from an error: they often hold a token.
func (s *Sender) redact(err error) error {
	text := err.Error()
	for _, secret := range []string{s.url.String(), s.url.RequestURI(), s.url.RawQuery, s.url.Path} {
		if len(secret) > 1 {
			text = strings.ReplaceAll(text, secret, "[url]")
		}
	}
	if text == err.Error() {
		return fmt.Errorf("send: %w", err)
	}
	return errors.New("send: " + text)
}
