package bitbucketapi

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/sallyport/sallyport/identity"
)

// ErrBusy is the error of a request that was not sent: the API asked for a pause, or
// the budget of requests is used up.
var ErrBusy = errors.New("no request is sent to the API at the moment")

// ErrNoAPI is the error of a query about a workspace without a configured REST API.
var ErrNoAPI = errors.New("bitbucket: no REST API is configured for this workspace")

// StatusError is a response with a status other than 200.
type StatusError struct {
	Status     int
	RetryAfter time.Duration // zero: not in the response
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("returned %d %s", e.Status, http.StatusText(e.Status))
	if e.RetryAfter > 0 {
		text += fmt.Sprintf(", retry after %v", e.RetryAfter)
	}
	return text
}

// IsStatus reports whether err is a response with this status.
func IsStatus(err error, status int) bool {
	answer, ok := errors.AsType[*StatusError](err)
	return ok && answer.Status == status
}

// IsNotFound reports whether the API returned 404, which is a valid response: a
// repository without pipelines, a pipeline that was deleted.
func IsNotFound(err error) bool { return IsStatus(err, http.StatusNotFound) }

// Classify wraps the error of a request in [identity.ErrAbsent] or
// [identity.ErrForbidden] where the status has that meaning.
func Classify(err error) error {
	switch {
	case IsNotFound(err) || IsStatus(err, http.StatusGone):
		return fmt.Errorf("%w: %w", identity.ErrAbsent, err)
	case IsStatus(err, http.StatusForbidden):
		return fmt.Errorf("%w: %w", identity.ErrForbidden, err)
	}
	return err
}
