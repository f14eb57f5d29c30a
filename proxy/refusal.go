package proxy

import (
	"net/http"
	"strings"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// Refusal is the response to a request that is not admitted. The client may read
// everything in it: it has no internal address and no raw error.
type Refusal struct {
	Status     int
	Reason     policy.Reason
	DecisionID string // empty where no event was written
	Rule       string
	Message    string // the policy author's word
	Detail     string // what exactly is wrong
	Recorded   bool   // an event with this decision id is in the log
	RetryAfter time.Duration
	Allow      string // of a 405: the permitted methods; "": GET, HEAD
	// Throttled is set for a step, or an address whose credentials are not accepted,
	// that is refused more often than is recorded: the answer should be delayed, so that
	// a loop without a pause costs little.
	Throttled bool
}

// refuse makes a refusal with the status that the reason always has.
func refuse(reason policy.Reason, detail string) *Refusal {
	r := &Refusal{Status: http.StatusForbidden, Reason: reason, Detail: detail}
	if o, ok := outcomes[reason]; ok {
		r.Status = o.status
		r.RetryAfter = o.retryAfter
	}
	return r
}

// NewRefusal makes a refusal for something that never reached the gate: a head
// that could not be read, or a limit of this instance.
func NewRefusal(reason policy.Reason, detail string) *Refusal { return refuse(reason, detail) }

// ProxyError is the refusal's error type for the Proxy-Status field (RFC 9209
// section 2.3).
func (r *Refusal) ProxyError() string {
	if r.Status == http.StatusGatewayTimeout && r.Reason == policy.NameUnresolved {
		return "dns_timeout"
	}
	if o, ok := outcomes[r.Reason]; ok {
		return o.proxyError
	}
	return "proxy_internal_error"
}

// Next is what the client can do about it, in one sentence. secure reports
// whether the listener speaks TLS, which decides the scheme of the proxy's URL.
func (r *Refusal) Next(secure bool) string {
	if o, ok := outcomes[r.Reason]; ok {
		if secure {
			return strings.ReplaceAll(o.next, "=http://", "=https://")
		}
		return o.next
	}
	return "ask the operator of this proxy, with the decision id"
}

type outcome struct {
	status     int
	proxyError string
	next       string
	retryAfter time.Duration
}

const (
	nextToken     = `give the step "oidc: {audiences: [...]}" with this proxy's audience and set HTTPS_PROXY=http://step:$BITBUCKET_STEP_OIDC_TOKEN@HOST:PORT`
	nextUnchanged = "send the step's own $BITBUCKET_STEP_OIDC_TOKEN, complete and unchanged; if the error persists, contact the operator of this proxy"
	nextRetry     = "try again in a moment; if the error persists, contact the operator of this proxy"
	nextUpstream  = "try again in a moment; if the error persists, contact the operator of this proxy: the next proxy on the way out is in trouble, or does not let this target pass"
	nextPolicy    = "ask for a rule in the policy repository, naming the target, the repository and the deployment"
)

// outcomes has the response to the client for each reason of a refusal. A test checks
// that it is complete.
var outcomes = map[policy.Reason]outcome{
	policy.CredentialMissing:     {http.StatusProxyAuthRequired, "http_request_denied", nextToken, 0},
	policy.CredentialAmbiguous:   {http.StatusBadRequest, "http_request_error", "send exactly one Proxy-Authorization field with one credential", 0},
	policy.CredentialMalformed:   {http.StatusProxyAuthRequired, "http_request_denied", nextToken, 0},
	policy.CredentialTooLarge:    {http.StatusProxyAuthRequired, "http_request_denied", nextUnchanged, 0},
	policy.CredentialAlgorithm:   {http.StatusProxyAuthRequired, "http_request_denied", nextUnchanged, 0},
	policy.CredentialKeyUnknown:  {http.StatusProxyAuthRequired, "http_request_denied", "run the step again; if the error persists, the token is not from an issuer that this proxy knows: contact the operator of this proxy", 0},
	policy.CredentialSignature:   {http.StatusProxyAuthRequired, "http_request_denied", nextUnchanged, 0},
	policy.CredentialIssuer:      {http.StatusProxyAuthRequired, "http_request_denied", "ask the operator of this proxy to configure your workspace's issuer", 0},
	policy.CredentialAudience:    {http.StatusProxyAuthRequired, "http_request_denied", `put this proxy's audience under "oidc: {audiences: [...]}" of the step`, 0},
	policy.CredentialExpired:     {http.StatusProxyAuthRequired, "http_request_denied", "run the step again, or split it: a token cannot be renewed during a step", 0},
	policy.CredentialNotYetValid: {http.StatusProxyAuthRequired, "http_request_denied", "compare this proxy's clock with the issuer's", 0},
	policy.CredentialLifetime:    {http.StatusProxyAuthRequired, "http_request_denied", "ask the operator of this proxy about the maximum lifetime of a token", 0},
	policy.CredentialWorkspace:   {http.StatusProxyAuthRequired, "http_request_denied", "ask the operator of this proxy to configure your workspace", 0},
	policy.CredentialSubject:     {http.StatusProxyAuthRequired, "http_request_denied", nextUnchanged, 0},
	policy.CredentialClaims:      {http.StatusProxyAuthRequired, "http_request_denied", nextUnchanged, 0},
	policy.CredentialRevoked:     {http.StatusProxyAuthRequired, "http_request_denied", "ask the operator of this proxy for the reason of the revocation", 0},
	policy.KeysUnavailable:       {http.StatusServiceUnavailable, "proxy_internal_error", nextRetry, 5 * time.Second},
	policy.NamesUnavailable:      {http.StatusServiceUnavailable, "proxy_internal_error", nextRetry, 5 * time.Second},
	policy.AdmittedUnavailable:   {http.StatusServiceUnavailable, "proxy_internal_error", nextRetry, 5 * time.Second},

	policy.TargetInvalid:  {http.StatusBadRequest, "http_request_error", "write the target in its canonical form", 0},
	policy.RequestInvalid: {http.StatusBadRequest, "http_request_error", "correct the request", 0},
	policy.TLSRequired:    {http.StatusBadRequest, "http_request_error", "begin the proxy's URL with https://, and replace the token if others can read this network", 0},
	policy.HeadTooLarge:   {http.StatusRequestHeaderFieldsTooLarge, "http_request_error", "send fewer or shorter header fields", 0},
	policy.HeadTimeout:    {http.StatusRequestTimeout, "http_request_error", "send the request head at once", 0},
	policy.BodyTimeout:    {http.StatusRequestTimeout, "http_request_error", "send the request's body without pauses, or upload it in parts", 0},

	policy.PolicyDenied:      {http.StatusForbidden, "http_request_denied", "read the rule's message, or " + nextPolicy, 0},
	policy.NoRuleMatched:     {http.StatusForbidden, "http_request_denied", nextPolicy, 0},
	policy.PolicyError:       {http.StatusForbidden, "proxy_internal_error", "report the decision id to the owner of the policy repository", 0},
	policy.AddressProhibited: {http.StatusForbidden, "destination_ip_prohibited", "use the name of a public host; put localhost and the step's own services into NO_PROXY; or ask the operator of this proxy for an exception", 0},

	policy.NameUnresolved:    {http.StatusBadGateway, "dns_error", "check the spelling of the name; put the names of the step's own services into NO_PROXY; then try again", 0},
	policy.TargetUnreachable: {http.StatusBadGateway, "destination_unavailable", "check that the target is up, then try again", 0},
	policy.TargetTimeout:     {http.StatusGatewayTimeout, "connection_timeout", "check that the target is up, then try again", 0},

	policy.UpstreamUnavailable: {http.StatusBadGateway, "destination_unavailable", nextUpstream, 0},
	policy.UpstreamTimeout:     {http.StatusGatewayTimeout, "connection_timeout", nextUpstream, 0},

	policy.ResponseInvalid: {http.StatusBadGateway, "http_protocol_error", "have the target's answer corrected: it is not HTTP that can be passed on safely", 0},

	policy.AuditUnavailable: {http.StatusServiceUnavailable, "proxy_internal_error", nextRetry, 5 * time.Second},
	policy.Overloaded:       {http.StatusServiceUnavailable, "connection_limit_reached", nextRetry, time.Second},
	policy.ByteLimit:        {http.StatusRequestEntityTooLarge, "http_request_denied", "send less at once, or ask for a higher bytes_sent or bytes_received in the rule's limits", 0},
	policy.StepLimit:        {http.StatusTooManyRequests, "http_request_denied", "let the step open fewer connections at once, or ask the operator of this proxy about limits.step", time.Second},
	policy.RepositoryLimit:  {http.StatusTooManyRequests, "http_request_denied", "let fewer steps run at once, or ask the operator of this proxy about limits.repository", time.Second},
	policy.InstanceLimit:    {http.StatusServiceUnavailable, "connection_limit_reached", nextRetry, time.Second},
	policy.ShuttingDown:     {http.StatusServiceUnavailable, "proxy_internal_error", nextRetry, time.Second},
	policy.EmergencyStop:    {http.StatusServiceUnavailable, "proxy_internal_error", "ask the operator of this proxy when the emergency stop will be lifted", time.Minute},
	policy.InternalError:    {http.StatusInternalServerError, "proxy_internal_error", "report the decision id to the operator of this proxy", 0},
}

// Cause is the cause that an admission ends with when this refusal is its end.
func (r *Refusal) Cause() Cause {
	switch r.Reason {
	case policy.TargetUnreachable:
		return CauseTargetUnreachable
	case policy.TargetTimeout:
		return CauseTargetTimeout
	case policy.ResponseInvalid:
		return CauseResponseInvalid
	case policy.UpstreamUnavailable:
		return CauseUpstreamUnavailable
	case policy.UpstreamTimeout:
		return CauseUpstreamTimeout
	case policy.Overloaded, policy.StepLimit, policy.RepositoryLimit:
		return CauseOverloaded
	case policy.ShuttingDown:
		return CauseShutdown
	case policy.EmergencyStop:
		return CauseEmergencyStop
	case policy.CredentialRevoked:
		return CauseRevoked
	}
	return CauseInternal
}
