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
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// passLife is how long a pass may be used, once.
const passLife = 10 * time.Second

// nobody is the UUID of what a probe does not have: a workspace, a repository. No
// real one has it (RFC 9562 section 5.9).
const nobody = "00000000-0000-0000-0000-000000000000"

// Door stands before what authenticates and what decides. It knows the probe's
// pass, which is made of random bytes for one attempt, is never logged or stored,
// and is forgotten when it was shown; and it holds the probe to its targets and
// everybody else off them. It is safe for concurrent use.
type Door struct {
	authenticator proxy.Authenticator
	decider       proxy.Decider

	mu    sync.Mutex
	pass  *pass               // not shown yet; nil: none
	guest *identity.Principal // who showed the latest, while its probe goes on
	from  netip.Addr          // where its probe comes from
	word  *policy.Decision    // what policy said of the name that must be refused; nil: it was not asked
}

// pass is what a probe shows.
type pass struct {
	digest [sha256.Size]byte
	until  time.Time
	guest  *identity.Principal
	from   netip.Addr
}

// DecideOrganization evaluates the organization's half of the policy. What concerns
// the self-test is never settled by that half alone: [Door.Decide] decides it.
func (d *Door) DecideOrganization(ctx context.Context, r *policy.Request) (decision policy.Decision, final bool, err error) {
	o, ok := d.decider.(proxy.OrganizationDecider)
	if !ok || r.Principal != nil && r.Principal.Kind == Kind || IsReserved(r.Target.Host) {
		return policy.Decision{}, false, nil
	}
	return o.DecideOrganization(ctx, r)
}

// NewDoor returns a door before these two.
func NewDoor(a proxy.Authenticator, d proxy.Decider) *Door {
	return &Door{authenticator: a, decider: d}
}

// admit makes a pass for a probe from an address, as the value of its
// Proxy-Authorization; there is one at a time. leave ends it, and the probe.
func (d *Door) admit(stepUUID string, from netip.Addr) (field string, leave func()) {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails (package crypto/rand)
	token := hex.EncodeToString(secret[:])
	guest := &identity.Principal{
		Kind: Kind, Issuer: zone, CredentialKind: Kind,
		Workspace:  identity.Workspace{UUID: nobody, Slug: zone},
		Repository: identity.Repository{UUID: nobody, FullName: zone + "/probe", Project: "SELF-TEST"},
		Pipeline:   identity.Run{UUID: nobody}, Step: identity.Run{UUID: stepUUID},
		CredentialDigest: sha256.Sum256([]byte(token)), Expires: time.Now().Add(patience),
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pass = &pass{digest: guest.CredentialDigest, until: time.Now().Add(passLife), guest: guest, from: from.Unmap()}
	d.guest, d.word = nil, nil
	return "Bearer " + token, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.pass, d.guest = nil, nil
	}
}

// Authenticate takes the probe's pass, once, and leaves all else to the
// authenticator behind it.
func (d *Door) Authenticate(ctx context.Context, credential identity.Credential) (*identity.Principal, error) {
	if guest := d.take(credential); guest != nil {
		return guest, nil
	}
	return d.authenticator.Authenticate(ctx, credential)
}

func (d *Door) take(credential identity.Credential) *identity.Principal {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pass == nil {
		return nil
	}
	shown := credential.Digest()
	if subtle.ConstantTimeCompare(shown[:], d.pass.digest[:]) != 1 || time.Now().After(d.pass.until) {
		return nil
	}
	p := d.pass
	d.pass, d.guest, d.from = nil, p.guest, p.from
	return p.guest
}

// isGuest reports whether this very principal is the probe that goes on, from
// where it was made: one that only says it is of its kind is not.
func (d *Door) isGuest(p *identity.Principal, from netip.Addr) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return p != nil && p == d.guest && from.Unmap() == d.from
}

// keep keeps what policy said first. In report mode the log cannot tell it: what is
// let pass, and then has no address, is on record as refused for that.
func (d *Door) keep(decision *policy.Decision) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.word == nil {
		kept := *decision
		d.word = &kept
	}
}

// wouldDeny reports whether policy would have refused the latest probe and let it
// pass only because it is in report mode.
func (d *Door) wouldDeny() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.word != nil && d.word.Verdict == policy.Allow && d.word.Mode == policy.Report && d.word.WouldDeny
}

// IsReserved reports whether a canonical host is one of the probes': to these nobody
// else gets, whatever policy says.
func IsReserved(host string) bool { return host == zone || strings.HasSuffix(host, "."+zone) }

// Decide asks the policy that decides for everybody, always, and keeps its word but
// for the reserved names: to these nobody gets but a probe, and a probe gets to
// nothing else; and the echo is let out to, which no author needs a rule for.
func (d *Door) Decide(ctx context.Context, r *policy.Request) (policy.Decision, error) {
	decision, err := d.decider.Decide(ctx, r)
	if err != nil {
		return decision, err
	}
	ours := r.Principal != nil && r.Principal.Kind == Kind
	if !ours && !IsReserved(r.Target.Host) {
		return decision, nil
	}
	// Of the decision stays what was evaluated: the revision and the input.
	own := policy.Decision{
		Reason: policy.PolicyDenied, Rule: Rule, Rules: []string{Rule}, Message: "This name is for the self-test of this proxy.",
		Revision: decision.Revision, Input: decision.Input, Duration: decision.Duration,
	}
	if !d.isGuest(r.Principal, r.ClientAddress) || r.Action != policy.Connect || r.Target.Port != port {
		return own, nil
	}
	switch {
	case r.Target.Host == EchoHost:
		own.Verdict, own.Reason, own.Message = policy.Allow, policy.PolicyAllowed, ""
		own.Limits = policy.Limits{Lifetime: patience, Sent: 1 << 16, Received: 1 << 16}
		return own, nil
	case strings.HasSuffix(r.Target.Host, refusedBelow):
		d.keep(&decision)
		return decision, nil // the organisation's word
	}
	return own, nil
}
