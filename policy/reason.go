package policy

import "github.com/sallyport/sallyport/identity"

// Reason is why a decision came out as it did: one closed vocabulary for the
// client, the log, the metrics and the audit log. The problems of a credential
// are reasons too, under the same words.
type Reason string

// The reasons of a policy.
const (
	PolicyAllowed Reason = "policy_allowed"  // an allow counted and no deny matched
	PolicyDenied  Reason = "policy_denied"   // a deny matched
	NoRuleMatched Reason = "no_rule_matched" // no allow counted
	PolicyError   Reason = "policy_error"    // the policy could not be evaluated
)

// The reasons for which a request never reaches policy, or does not leave after it.
const (
	TargetInvalid       Reason = "target_invalid"       // not a canonical target
	RequestInvalid      Reason = "request_invalid"      // not an HTTP request that can be forwarded safely
	TLSRequired         Reason = "tls_required"         // plain HTTP on a TLS listener
	HeadTooLarge        Reason = "head_too_large"       // the request head is over its limit
	HeadTimeout         Reason = "head_timeout"         // the request head came too slowly
	BodyTimeout         Reason = "body_timeout"         // the request's content stalled
	AddressProhibited   Reason = "address_prohibited"   // every address is one that must not be reached
	NameUnresolved      Reason = "name_unresolved"      // the target's name has no address, or DNS failed
	AuditUnavailable    Reason = "audit_unavailable"    // the decision could not be written down
	TargetUnreachable   Reason = "target_unreachable"   // the target refused or could not be reached
	TargetTimeout       Reason = "target_timeout"       // the target did not answer in time
	UpstreamUnavailable Reason = "upstream_unavailable" // the proxy on the way out could not be reached, or refused
	UpstreamTimeout     Reason = "upstream_timeout"     // it did not answer in time
	ResponseInvalid     Reason = "response_invalid"     // the target's answer cannot be passed on
	Overloaded          Reason = "overloaded"           // a limit of this instance is reached, by whomever
	ByteLimit           Reason = "byte_limit"           // a request or its response has more bytes than its rule allows
	StepLimit           Reason = "step_limit"           // the step has or requests more than one step may
	RepositoryLimit     Reason = "repository_limit"     // its repository's steps together do
	InstanceLimit       Reason = "instance_limit"       // all steps together do
	ShuttingDown        Reason = "shutting_down"        // this instance admits nothing new
	EmergencyStop       Reason = "emergency_stop"       // an operator has stopped everything
	InternalError       Reason = "internal_error"       // a fault of ours
)

// The reasons of a credential.
const (
	CredentialMissing     = Reason(identity.CredentialMissing)
	CredentialAmbiguous   = Reason(identity.CredentialAmbiguous)
	CredentialMalformed   = Reason(identity.CredentialMalformed)
	CredentialTooLarge    = Reason(identity.CredentialTooLarge)
	CredentialAlgorithm   = Reason(identity.CredentialAlgorithm)
	CredentialKeyUnknown  = Reason(identity.CredentialKeyUnknown)
	CredentialSignature   = Reason(identity.CredentialSignature)
	CredentialIssuer      = Reason(identity.CredentialIssuer)
	CredentialAudience    = Reason(identity.CredentialAudience)
	CredentialExpired     = Reason(identity.CredentialExpired)
	CredentialNotYetValid = Reason(identity.CredentialNotYetValid)
	CredentialLifetime    = Reason(identity.CredentialLifetime)
	CredentialWorkspace   = Reason(identity.CredentialWorkspace)
	CredentialSubject     = Reason(identity.CredentialSubject)
	CredentialClaims      = Reason(identity.CredentialClaims)
	CredentialRevoked     = Reason(identity.CredentialRevoked)
	KeysUnavailable       = Reason(identity.KeysUnavailable)
	NamesUnavailable      = Reason(identity.NamesUnavailable)
	AdmittedUnavailable   = Reason(identity.AdmittedUnavailable)
)
