package proxy

// Cause is the close reason of an admission, of a closed vocabulary.
type Cause string

// The causes.
const (
	CauseFinished               Cause = "finished"                  // both sides are done
	CauseClientClosed           Cause = "client_closed"             // the client closed or reset its connection
	CauseTargetClosed           Cause = "target_closed"             // the target closed or reset its connection
	CauseClientError            Cause = "client_error"              // reading from or writing to the client failed
	CauseTargetError            Cause = "target_error"              // of the target
	CauseIdle                   Cause = "idle_timeout"              // no byte for too long
	CauseHalfClosed             Cause = "half_closed_timeout"       // one side was done and the other did not end
	CauseLifetime               Cause = "lifetime"                  // the absolute deadline
	CauseBytesSentLimit         Cause = "bytes_sent_limit"          // more bytes to the target than the rule allows
	CauseBytesReceivedLimit     Cause = "bytes_received_limit"      // more bytes from it
	CauseStepBytesSentLimit     Cause = "step_bytes_sent_limit"     // more bytes of the step in all
	CauseStepBytesReceivedLimit Cause = "step_bytes_received_limit" // more bytes to the step in all
	CauseHelloMismatch          Cause = "hello_mismatch"            // the TLS server name is not the target
	CauseHelloMissing           Cause = "hello_missing"             // no TLS server name
	CauseHelloEncrypted         Cause = "hello_encrypted"           // the TLS server name is hidden (ECH)
	CauseHelloInvalid           Cause = "hello_invalid"             // not TLS, or a malformed ClientHello
	CauseHelloTooLarge          Cause = "hello_too_large"           // a ClientHello over its limit
	CauseHelloTimeout           Cause = "hello_timeout"             // no ClientHello in time
	CauseHTTPRequest            Cause = "http_request"              // a plain HTTP request instead of TLS, which has its own decision
	CauseTargetUnreachable      Cause = "target_unreachable"        // the dial failed
	CauseTargetTimeout          Cause = "target_timeout"            // the dial or the answer took too long
	CauseUpstreamUnavailable    Cause = "upstream_unavailable"      // the upstream proxy could not be reached, or refused
	CauseUpstreamTimeout        Cause = "upstream_timeout"          // the upstream proxy took too long
	CauseResponseInvalid        Cause = "response_invalid"          // the target's response cannot be forwarded
	CauseOverloaded             Cause = "overloaded"                // too many dials at once
	CauseShutdown               Cause = "shutdown"                  // this instance shut down
	CauseOperator               Cause = "operator"                  // an operator closed it
	CauseEmergencyStop          Cause = "emergency_stop"            // an operator activated the emergency stop
	CauseRevoked                Cause = "credential_revoked"        // an operator ended the step or its repository
	CauseCredentialEnded        Cause = "credential_ended"          // the credential expired, and the configuration closes tunnels then
	CausePolicyChanged          Cause = "policy_changed"            // the active policy does not allow it
	CauseAuditUnavailable       Cause = "audit_unavailable"         // what had to be recorded could not be
	CauseInternal               Cause = "internal_error"            // a fault of Sallyport
)

// Outcome is how an admission ended.
type Outcome struct {
	Sent           int64 // bytes that were written to the target's connection
	Received       int64 // bytes that were read from it and forwarded
	Cause          Cause
	Status         int // of the response to the client, if it is known only now
	UpstreamStatus int
	Repeated       bool // the request was sent a second time, after the target had closed a kept connection
}
