package session

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/sallyport/sallyport/internal/stepapi"
)

// The operations of a request.
const (
	OperationStatus  = "status"  // the result is a Status
	OperationReport  = "report"  // the result is what the forwarder has served
	OperationStop    = "stop"    // the result is that of report; the forwarder ends after it
	OperationForward = "forward" // adds a listener; the result is its address
	OperationStep    = "step"    // the result is what Sallyport knows of the step
	// OperationEvaluate has Sallyport evaluate targets; the result is stepapi.Evaluations.
	OperationEvaluate = "evaluate"
	// OperationNetworkCheck records the result of a network check with Sallyport.
	OperationNetworkCheck = "network_check"
)

// Bounds of the protocol: one JSON value in each direction, and then the end of the
// connection.
const (
	maxRequestBytes  = 64 << 10
	maxResponseBytes = 48 << 20         // twice that of a report
	requestTimeout   = 10 * time.Second // for a complete request
)

// Request is one request to a forwarder.
type Request struct {
	Operation string `json:"operation"`
	// Forward is LOCAL:HOST:PORT of [OperationForward].
	Forward string `json:"forward,omitempty"`
	// Targets are those of [OperationEvaluate], host:port, at most stepapi.MaxTargets.
	Targets []string `json:"targets,omitempty"`
	// NetworkCheck is the result to record of [OperationNetworkCheck].
	NetworkCheck *stepapi.NetworkCheck `json:"network_check,omitempty"`
}

// Status describes a running forwarder. It has no credential.
type Status struct {
	PID        int            `json:"pid"`
	Version    string         `json:"version"`
	Started    time.Time      `json:"started"`
	Forwarder  netip.AddrPort `json:"forwarder"`
	Containers netip.AddrPort `json:"containers"` // invalid: no listener for containers
	Proxies    []string       `json:"proxies"`    // URLs without user information
	CAFile     string         `json:"ca_file,omitempty"`
	Plaintext  bool           `json:"plaintext,omitempty"`
	Token      string         `json:"token"`                // where the token comes from
	TokenFile  string         `json:"token_file,omitempty"` // if it comes from a file
	Step       string         `json:"step,omitempty"`       // what Sallyport knew of the step at the start, as one line
	// Configuration is a digest of all that start was given, and of the token where the
	// environment has it: a start with the same digest keeps the forwarder.
	Configuration string `json:"configuration"`
}

// response is what the server sends.
type response struct {
	Error  string          `json:"error,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
}

var errTooLong = errors.New("the message is too long")

// parseRequest reads a request strictly.
func parseRequest(text []byte) (Request, error) {
	var r Request
	if err := decodeOne(text, &r); err != nil {
		return Request{}, fmt.Errorf("the request is not valid: %w", err)
	}
	switch r.Operation {
	case OperationForward, OperationEvaluate, OperationNetworkCheck, OperationStatus, OperationReport, OperationStop, OperationStep:
	default:
		return Request{}, fmt.Errorf("the operation %q is not known", r.Operation)
	}
	if (r.Operation == OperationForward) != (r.Forward != "") {
		return Request{}, fmt.Errorf("forward and the operation %q do not belong together", r.Operation)
	}
	if (r.Operation == OperationEvaluate) != (len(r.Targets) > 0) || len(r.Targets) > stepapi.MaxTargets {
		return Request{}, fmt.Errorf("the operation %q has %d targets: want 1 to %d of %q, and none of another operation", r.Operation, len(r.Targets), stepapi.MaxTargets, OperationEvaluate)
	}
	if (r.Operation == OperationNetworkCheck) != (r.NetworkCheck != nil) {
		return Request{}, fmt.Errorf("network_check and the operation %q do not belong together", r.Operation)
	}
	return r, nil
}

// decodeOne decodes exactly one JSON value without unknown fields.
func decodeOne(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is text after the value")
	}
	return nil
}

// readAll reads to the end, up to a bound.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = errTooLong
	}
	return text, err
}
