package webhook

import (
	"io"
	"net/http"
	"net/netip"
)

// Problem is why a request is not a verified delivery. Such requests are counted, and
// have no event of their own. The problems are documented in docs/reasons.md.
type Problem string

// The problems.
const (
	MethodProblem     Problem = "webhook_method"
	NetworkProblem    Problem = "webhook_source_network"
	RateProblem       Problem = "webhook_rate"
	TypeProblem       Problem = "webhook_content_type"
	SizeProblem       Problem = "webhook_body_too_large"
	SlowProblem       Problem = "webhook_body_timeout"
	IncompleteProblem Problem = "webhook_body_incomplete"
	OverloadedProblem Problem = "webhook_overloaded"
	UnsignedProblem   Problem = "webhook_signature_missing"
	SignatureProblem  Problem = "webhook_signature_invalid"
	EventProblem      Problem = "webhook_event_unknown"
	BodyProblem       Problem = "webhook_body_invalid"
	PingProblem       Problem = "webhook_ping" // not an error: answered 200, and changes nothing
)

// Problems are all problems, in the order of the checks.
var Problems = []Problem{
	NetworkProblem, RateProblem, MethodProblem, TypeProblem, UnsignedProblem, SizeProblem, OverloadedProblem, SlowProblem, IncompleteProblem, SignatureProblem,
	PingProblem, EventProblem, BodyProblem,
}

// responses are the status and the text of each problem. Before the signature is verified
// the text has no detail.
var responses = map[Problem]struct {
	status int
	text   string
}{
	MethodProblem:     {http.StatusMethodNotAllowed, "POST only"},
	NetworkProblem:    {http.StatusForbidden, "not accepted from this address"},
	RateProblem:       {http.StatusTooManyRequests, "too many requests from this address"},
	TypeProblem:       {http.StatusUnsupportedMediaType, "application/json only, without a content coding"},
	SizeProblem:       {http.StatusRequestEntityTooLarge, "the body is too large"},
	SlowProblem:       {http.StatusRequestTimeout, "the body took too long"},
	IncompleteProblem: {http.StatusBadRequest, "the body is incomplete"},
	OverloadedProblem: {http.StatusServiceUnavailable, "too much at once: send it again"},
	UnsignedProblem:   {http.StatusUnauthorized, "not verified"},
	SignatureProblem:  {http.StatusUnauthorized, "not verified"},
	EventProblem:      {http.StatusBadRequest, "not an event of Bitbucket"},
	BodyProblem:       {http.StatusBadRequest, "not the body of that event"},
	PingProblem:       {http.StatusOK, "pong"},
}

// Status returns the HTTP status of the response to a request with this problem.
func (p Problem) Status() int { return responses[p].status }

// refuse answers a request that is not a verified delivery.
func (r *Receiver) refuse(w http.ResponseWriter, client netip.Addr, problem Problem) {
	if r.c.Refused != nil {
		r.c.Refused(client, problem)
	}
	response := responses[problem]
	switch response.status {
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", http.MethodPost) // RFC 9110 section 15.5.6
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", SignatureHeader) // RFC 9110 section 15.5.2
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	}
	respond(w, response.status, response.text)
}

func respond(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n")
}
