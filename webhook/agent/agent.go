// Package agent delivers to endpoints that the gateway cannot reach. A [Server] in the
// gateway offers the tasks of such an endpoint; a [Client] beside the endpoint dials out,
// claims tasks by long polling, sends them to a local URL and acknowledges them.
//
// # Protocol
//
// All requests are POST requests with a JSON object over HTTPS, and the credential of one
// agent in the Authorization field (Bearer, RFC 6750 section 2.1). A credential is bound to
// one endpoint.
//
//	/agent/v1/claim   {"max": 4, "wait_seconds": 25}       200 with tasks, or 204: none came
//	/agent/v1/extend  {"lease": "…"}                       204
//	/agent/v1/done    {"lease": "…", "status": 200, "duration_ms": 12}  204
//	/agent/v1/release {"lease": "…"}                       204
//	/agent/v1/retry   {"lease": "…", "after_ms": 1500, "cause": "…"}    204
//	/agent/v1/dead    {"lease": "…", "cause": "…"}         204
//
// A lease is opaque to the agent. The server authenticates it: it has the task and the
// fencing number of this lease, so that any instance can check it. Statuses: 400 not a valid
// request, 401 no valid credential, 403 the endpoint is not for agents, 409 the lease was
// lost and the acknowledgement changed nothing, 429 too many requests, 503 try again.
package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Prefix is the path below which the [Server] is mounted.
const Prefix = "/agent/v1/"

// Bounds of the protocol.
const (
	maxRequest  = 64 << 10  // bytes of a request's body
	maxResponse = 192 << 20 // bytes of the tasks of one response
	maxBodies   = 96 << 20  // bytes of the bodies of one response, except for a single one
	maxTasks    = 8         // of one claim
	maxWait     = 55 * time.Second
	maxCause    = 300 // bytes

	maxEndpointName = 200 // bytes
)

// endpointField is the header field of responses that names the credential's endpoint.
const endpointField = "Sallyport-Endpoint"

type claimRequest struct {
	Max         int `json:"max"`
	WaitSeconds int `json:"wait_seconds"`
}

type claimResponse struct {
	LeaseSeconds int    `json:"lease_seconds"`
	Tasks        []task `json:"tasks"`
}

// task is a leased task as an agent receives it.
type task struct {
	Lease      string      `json:"lease"`
	Delivery   string      `json:"delivery"`
	Attempt    int         `json:"attempt"`
	Received   time.Time   `json:"received"`
	Receiver   string      `json:"receiver,omitempty"`
	Event      string      `json:"event,omitempty"`
	Repository string      `json:"repository,omitempty"`
	Header     http.Header `json:"header"`
	Body       []byte      `json:"body"` // base64, as encoding/json writes bytes
}

// leaseRequest is the request about one lease. Each operation uses the fields that are
// listed in the package's comment.
type leaseRequest struct {
	Lease      string `json:"lease"`
	Status     int    `json:"status,omitempty"`
	DurationMS int64  `json:"duration_ms,omitempty"`
	AfterMS    int64  `json:"after_ms,omitempty"`
	Cause      string `json:"cause,omitempty"`
}

// decode reads one JSON object and nothing after it. A field that the type does not have is
// an error.
func decode(r io.Reader, into any) error {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("read request: there is more than one JSON object")
	}
	return nil
}
