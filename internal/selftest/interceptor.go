package selftest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/uuid"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// probeTokenLifetime is how long a probe's token may be used, once.
const probeTokenLifetime = 10 * time.Second

// ProbeInterceptor wraps the authenticator and the decider. It authenticates the token
// of a probe: random bytes for one attempt, never logged or stored, and valid once. It
// restricts a probe to the reserved names, and denies these names to every other
// principal. It is safe for concurrent use.
type ProbeInterceptor struct {
	authenticator proxy.Authenticator
	decider       proxy.Decider

	mu             sync.Mutex
	token          *probeToken         // not used yet; nil: none
	principal      *identity.Principal // of the latest token that was used, while its probe runs
	from           netip.Addr          // the address of that probe
	policyDecision *policy.Decision    // for the name that must be refused; nil: none yet
}

// probeToken is the credential of one probe.
type probeToken struct {
	digest    [sha256.Size]byte
	expires   time.Time
	principal *identity.Principal
	from      netip.Addr
}

// DecideOrganization evaluates the policy of the organization alone. A request that
// concerns the self-test is left to [ProbeInterceptor.Decide].
func (i *ProbeInterceptor) DecideOrganization(ctx context.Context, r *policy.Request) (decision policy.Decision, final bool, err error) {
	o, ok := i.decider.(proxy.OrganizationDecider)
	if !ok || r.Principal != nil && r.Principal.Kind == Kind || IsReserved(r.Target.Host) {
		return policy.Decision{}, false, nil
	}
	return o.DecideOrganization(ctx, r)
}

// NewProbeInterceptor returns an interceptor for the two.
func NewProbeInterceptor(a proxy.Authenticator, d proxy.Decider) *ProbeInterceptor {
	return &ProbeInterceptor{authenticator: a, decider: d}
}

// issueToken issues the token for a probe from an address, as the value of its
// Proxy-Authorization; there is one at a time. endProbe ends both.
func (i *ProbeInterceptor) issueToken(stepUUID string, from netip.Addr) (field string, endProbe func()) {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails (package crypto/rand)
	token := hex.EncodeToString(secret[:])
	principal := &identity.Principal{
		Kind: Kind, Issuer: zone, CredentialKind: Kind,
		Workspace:  identity.Workspace{UUID: uuid.Nil, Slug: zone},
		Repository: identity.Repository{UUID: uuid.Nil, FullName: zone + "/probe", Project: "SELF-TEST"},
		Pipeline:   identity.Run{UUID: uuid.Nil}, Step: identity.Run{UUID: stepUUID},
		CredentialDigest: sha256.Sum256([]byte(token)), Expires: time.Now().Add(probeTimeout),
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.token = &probeToken{digest: principal.CredentialDigest, expires: time.Now().Add(probeTokenLifetime), principal: principal, from: from.Unmap()}
	i.principal, i.policyDecision = nil, nil
	return "Bearer " + token, func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.token, i.principal = nil, nil
	}
}

// Authenticate accepts the token of the probe, once, and leaves every other credential
// to the wrapped authenticator.
func (i *ProbeInterceptor) Authenticate(ctx context.Context, credential identity.Credential) (*identity.Principal, error) {
	if principal := i.redeem(credential); principal != nil {
		return principal, nil
	}
	return i.authenticator.Authenticate(ctx, credential)
}

func (i *ProbeInterceptor) redeem(credential identity.Credential) *identity.Principal {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.token == nil {
		return nil
	}
	digest := credential.Digest()
	if subtle.ConstantTimeCompare(digest[:], i.token.digest[:]) != 1 || time.Now().After(i.token.expires) {
		return nil
	}
	p := i.token
	i.token, i.principal, i.from = nil, p.principal, p.from
	return p.principal
}

// isProbe reports whether p is the very principal of the running probe, from the
// address of that probe. A principal of the same kind is not enough.
func (i *ProbeInterceptor) isProbe(p *identity.Principal, from netip.Addr) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return p != nil && p == i.principal && from.Unmap() == i.from
}

// storeDecision keeps the first decision of policy. In report mode the log does not show
// it: a target that is allowed and has no address is recorded as refused for that.
func (i *ProbeInterceptor) storeDecision(decision *policy.Decision) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.policyDecision == nil {
		kept := *decision
		i.policyDecision = &kept
	}
}

// wouldDeny reports whether policy allowed the latest probe only because of report mode.
func (i *ProbeInterceptor) wouldDeny() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.policyDecision != nil && i.policyDecision.Verdict == policy.Allow && i.policyDecision.Mode == policy.Report && i.policyDecision.WouldDeny
}

// IsReserved reports whether a canonical host is reserved for probes. Every other
// principal is denied these names, whatever policy decides.
func IsReserved(host string) bool { return host == zone || strings.HasSuffix(host, "."+zone) }

// Decide always evaluates the policy, and returns its decision for every name that is
// not reserved. A reserved name is denied to all but the probe, and the probe is denied
// every other name. The echo is allowed without a rule of policy.
func (i *ProbeInterceptor) Decide(ctx context.Context, r *policy.Request) (policy.Decision, error) {
	decision, err := i.decider.Decide(ctx, r)
	if err != nil {
		return decision, err
	}
	ours := r.Principal != nil && r.Principal.Kind == Kind
	if !ours && !IsReserved(r.Target.Host) {
		return decision, nil
	}
	// The decision keeps the revision and the input that were evaluated.
	own := policy.Decision{
		Reason: policy.PolicyDenied, Rule: Rule, Rules: []string{Rule}, Message: "This name is for the self-test of this proxy.",
		Revision: decision.Revision, Input: decision.Input, Duration: decision.Duration,
	}
	if !i.isProbe(r.Principal, r.ClientAddress) || r.Action != policy.Connect || r.Target.Port != port {
		return own, nil
	}
	switch {
	case r.Target.Host == EchoHost:
		own.Verdict, own.Reason, own.Message = policy.Allow, policy.PolicyAllowed, ""
		own.Limits = policy.Limits{Lifetime: probeTimeout, Sent: 1 << 16, Received: 1 << 16}
		return own, nil
	case strings.HasSuffix(r.Target.Host, refusedBelow):
		i.storeDecision(&decision)
		return decision, nil // the decision of the organization
	}
	return own, nil
}
