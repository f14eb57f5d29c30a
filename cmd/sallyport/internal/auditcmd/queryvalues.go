package auditcmd

import (
	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/webhook"
)

// ReasonNames is the vocabulary of reasons.
var ReasonNames = func() []string {
	var list []string
	for _, r := range []policy.Reason{
		policy.PolicyAllowed, policy.PolicyDenied, policy.NoRuleMatched, policy.PolicyError,
		policy.TargetInvalid, policy.RequestInvalid, policy.TLSRequired, policy.HeadTooLarge, policy.HeadTimeout, policy.BodyTimeout, policy.AddressProhibited, policy.NameUnresolved,
		policy.AuditUnavailable, policy.TargetUnreachable, policy.TargetTimeout, policy.UpstreamUnavailable, policy.UpstreamTimeout, policy.ResponseInvalid,
		policy.Overloaded, policy.ByteLimit, policy.StepLimit, policy.RepositoryLimit, policy.InstanceLimit, policy.ShuttingDown, policy.EmergencyStop, policy.InternalError,
		webhook.Configured, webhook.RepositoryNotAllowed, webhook.EventNotAllowed,
		policy.CredentialMissing, policy.CredentialAmbiguous, policy.CredentialMalformed, policy.CredentialTooLarge, policy.CredentialAlgorithm,
		policy.CredentialKeyUnknown, policy.CredentialSignature, policy.CredentialIssuer, policy.CredentialAudience, policy.CredentialExpired,
		policy.CredentialNotYetValid, policy.CredentialLifetime, policy.CredentialWorkspace, policy.CredentialSubject, policy.CredentialClaims,
		policy.CredentialRevoked, policy.KeysUnavailable, policy.NamesUnavailable, policy.AdmittedUnavailable,
	} {
		list = append(list, string(r))
	}
	return list
}()

func KindNames() []string {
	list := make([]string, len(audit.Kinds))
	for i, k := range audit.Kinds {
		list[i] = string(k)
	}
	return list
}
