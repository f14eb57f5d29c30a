package proxy

import "slices"

// Explanation is the text for the client of a closed tunnel or request. The close itself
// was a reset or part of a response, without a reason.
type Explanation struct {
	What string // what happened
	Next string // what to do
}

// Explain returns the explanation of a close reason, and whether this proxy forced
// the end. The other reasons were caused by the client or the target, or the client
// saw a refusal.
func (c Cause) Explain() (Explanation, bool) {
	e, ok := forcedCloses[c]
	return e, ok
}

// ForcedCauses lists the close reasons that [Cause.Explain] explains, in
// alphabetical order.
func ForcedCauses() []string {
	list := make([]string, 0, len(forcedCloses))
	for c := range forcedCloses {
		list = append(list, string(c))
	}
	slices.Sort(list)
	return list
}

const nextProtocol = `use TLS to the target's own name, or ask for a rule with protocol: "any" for this target`

var forcedCloses = map[Cause]Explanation{
	CauseHelloMismatch:  {"the TLS server name differs from the host of the CONNECT", "connect to the name in the certificate, and have the client send that name as the server name (SNI); a client that encrypts its server name (ECH) sends another one: disable ECH in the client"},
	CauseHelloMissing:   {"the TLS ClientHello has no server name", `have the client send the server name (SNI). Some clients send none for names with an underscore: ask for a rule with "no_sni": true for this target`},
	CauseHelloEncrypted: {"the TLS server name is encrypted (ECH); Chromium and Firefox send this extension by default", `disable ECH in the client (Chromium: policy EncryptedClientHelloEnabled=false), or ask for a rule with "ech": true for this target`},
	CauseHelloInvalid:   {"the tunnel does not start with TLS", nextProtocol},
	CauseHelloTooLarge:  {"the TLS ClientHello is longer than 16 KiB", nextProtocol},
	CauseHelloTimeout:   {"no TLS ClientHello arrived in time: the client sent nothing, or waits for the target to send first", nextProtocol},

	CauseIdle:                   {"no data was transferred within the idle limit", "have the client send keep-alive messages, or ask for a rule with a longer idle limit"},
	CauseHalfClosed:             {"one side closed its direction, and the other sent nothing within the idle limit", "close the connection when the transfer is done, or ask for a rule with a longer idle limit"},
	CauseLifetime:               {"the tunnel or request reached its lifetime limit", "split the transfer, or ask for a rule with a longer lifetime limit"},
	CauseBytesSentLimit:         {"the client sent more bytes than the rule allows; the excess was not forwarded", "send less, or ask for a rule with a higher bytes_sent limit"},
	CauseBytesReceivedLimit:     {"the target sent more bytes than the rule allows; the excess was not forwarded", "receive less, or ask for a rule with a higher bytes_received limit"},
	CauseStepBytesSentLimit:     {"the step sent more bytes in total than the rule allows; the excess was not forwarded", "send less, or ask for a rule with a higher step_bytes_sent limit"},
	CauseStepBytesReceivedLimit: {"targets sent the step more bytes in total than the rule allows; the excess was not forwarded", "receive less, or ask for a rule with a higher step_bytes_received limit"},
	CauseShutdown:               {"this instance shut down before the transfer ended", "try again: another instance serves the request"},
	CauseOperator:               {"an operator closed the tunnel or request", "ask the operator of this proxy, with the decision id"},
	CauseEmergencyStop:          {"an operator activated the emergency stop", "ask the operator of this proxy when the emergency stop will be lifted"},
	CauseRevoked:                {"an operator revoked the credentials of this step or its repository", "ask the operator of this proxy for the reason of the revocation"},
	CauseCredentialEnded:        {"the step's token expired", "run the step again, or split it: a token cannot be renewed during a step"},
	CausePolicyChanged:          {"the policy changed and no longer allows this tunnel or request", "ask for a rule in the policy repository, naming the target, the repository and the deployment"},
	CauseAuditUnavailable:       {"the audit log could not record what the tunnel was about to do", "try again in a moment; if the error persists, contact the operator of this proxy"},
	CauseInternal:               {"an internal error of the proxy", "report it to the operator of this proxy, with the decision id"},
}
