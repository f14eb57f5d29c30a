package identity

import "fmt"

// Problem is why a credential did not become a principal. It is a closed
// vocabulary: the values are the reasons that a client, a log line, a metric
// and the audit log show.
type Problem string

// The problems of a credential. Each is answered with 407, but for the last
// four: there the credential could not be judged, and the answer is 503.
const (
	CredentialMissing     Problem = "credential_missing"       // none was presented
	CredentialAmbiguous   Problem = "credential_ambiguous"     // more than one, or a list
	CredentialMalformed   Problem = "credential_malformed"     // not Basic or Bearer, or not a compact JWS
	CredentialTooLarge    Problem = "credential_too_large"     // longer than any token Bitbucket issues
	CredentialAlgorithm   Problem = "credential_algorithm"     // not RS256
	CredentialKeyUnknown  Problem = "credential_key_unknown"   // signed with a key the issuer does not publish, or naming none
	CredentialSignature   Problem = "credential_signature"     // the signature is not the key's
	CredentialIssuer      Problem = "credential_issuer"        // not one of the configured issuers
	CredentialAudience    Problem = "credential_audience"      // meant for another recipient
	CredentialExpired     Problem = "credential_expired"       // its time is over
	CredentialNotYetValid Problem = "credential_not_yet_valid" // its time has not begun
	CredentialLifetime    Problem = "credential_lifetime"      // lives longer than the configuration accepts
	CredentialWorkspace   Problem = "credential_workspace"     // of another workspace than the issuer's
	CredentialSubject     Problem = "credential_subject"       // sub and the UUID claims disagree
	CredentialClaims      Problem = "credential_claims"        // a claim is missing, doubled or of the wrong type
	CredentialRevoked     Problem = "credential_revoked"       // ended by an operator

	KeysUnavailable     Problem = "keys_unavailable"     // the issuer's keys cannot be had, so the token cannot be judged
	NamesUnavailable    Problem = "names_unavailable"    // a name that policy needs has never been known
	AdmittedUnavailable Problem = "admitted_unavailable" // whether a token that has ended was admitted before cannot be found out
	Overloaded          Problem = "overloaded"           // too many tokens wait to be verified
)

// Unavailable reports whether the credential could not be judged, as opposed to
// having been judged and found wanting: the client may try again with the same one.
func (p Problem) Unavailable() bool {
	return p == KeysUnavailable || p == NamesUnavailable || p == AdmittedUnavailable || p == Overloaded
}

// Error is a credential that did not become a principal. Detail may be shown to
// the client: it names what is wrong and what to do, and never holds a part of
// the credential that is not public. Err is for the log only and may be nil.
type Error struct {
	Problem Problem
	Detail  string
	Err     error
	// Principal is who the credential belongs to, where that much is proven, for
	// the record of the refusal; nil otherwise. It entitles to nothing.
	Principal *Principal
}

func (e *Error) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %s: %v", e.Problem, e.Detail, e.Err)
	}
	return fmt.Sprintf("%s: %s", e.Problem, e.Detail)
}

func (e *Error) Unwrap() error { return e.Err }
