package policycmd

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// relaxing has the key of an allow that accepts the first bytes of a tunnel, by the close
// reason that they have without the key. No key accepts another server name.
var relaxing = map[proxy.Cause]string{
	proxy.CauseHelloEncrypted: `"ech": true`,
	proxy.CauseHelloMissing:   `"no_sni": true`,
	proxy.CauseHelloInvalid:   anyProtocol,
	proxy.CauseHelloTimeout:   anyProtocol,
	proxy.CauseHelloTooLarge:  anyProtocol,
}

const anyProtocol = `"protocol": "any"`

// relaxations are the keys that the tunnels of a use need.
func (u *use) relaxations() []string { return relaxationsOf(u.closed) }

// relaxationsOf returns the keys of a rule that accept tunnels with these close reasons, in
// alphabetical order. protocol: "any" includes the others. No key accepts another server
// name than the target.
func relaxationsOf(closed map[string]int64) []string {
	keys := map[string]bool{}
	for reason := range closed {
		if key := relaxing[proxy.Cause(reason)]; key != "" {
			keys[key] = true
		}
	}
	if keys[anyProtocol] {
		return []string{anyProtocol}
	}
	return slices.Sorted(maps.Keys(keys))
}

// relaxedID is the part of a rule's id for its relaxations.
func relaxedID(keys []string) string {
	names := map[string]string{`"ech": true`: "-ech", `"no_sni": true`: "-no-sni", anyProtocol: "-any-protocol"}
	id := ""
	for _, key := range keys {
		id += names[key]
	}
	return id
}

// allowedTunnel is a tunnel that a rule of the policy allows already.
type allowedTunnel struct {
	observed *observed
	rule     string
	target   string
	decision policy.Decision
}

// strictRule is a rule that does not accept the first bytes of tunnels that it allows.
type strictRule struct{ rule, target, reason, key string }

// noteAllowed keeps a tunnel that the policy allows, until its close reason is known.
func (s *suggester) noteAllowed(o *observed, d *audit.Decided, now *policy.Decision) {
	if d.Action == string(policy.Connect) && len(s.allowed) < maxDecisions {
		s.allowed[d.ID] = &allowedTunnel{observed: o, rule: now.Rule, target: net.JoinHostPort(d.Host, strconv.Itoa(d.Port)), decision: *now}
	}
}

// noteStrict counts a tunnel that the policy allows and closes at its first bytes. Another
// rule would not help: every allow that counts must relax.
func (s *suggester) noteStrict(decisionID, closeReason string) {
	a := s.allowed[decisionID]
	key := relaxing[proxy.Cause(closeReason)]
	if a == nil || key == "" {
		return
	}
	d := &a.decision
	if d.Protocol == policy.ProtocolAny || key == `"ech": true` && d.ECH || key == `"no_sni": true` && d.NoSNI {
		return
	}
	of := strictRule{a.rule, a.target, closeReason, key}
	if a.observed.strict == nil {
		a.observed.strict = map[strictRule]int64{}
	}
	if _, known := a.observed.strict[of]; known || len(a.observed.strict) < maxUses {
		a.observed.strict[of]++
	}
}

// strictText names the rules that need a relaxation, one a line.
func (o *observed) strictText() string {
	var b strings.Builder
	rules := slices.SortedFunc(maps.Keys(o.strict), func(a, b strictRule) int {
		return cmp.Or(cmp.Compare(a.rule, b.rule), cmp.Compare(a.target, b.target), cmp.Compare(a.reason, b.reason))
	})
	for _, r := range rules {
		fmt.Fprintf(&b, "%s: rule %s allows %s, and enforce mode closes %s with %s. To accept them, add %s to the rule\n",
			o.folder, r.rule, r.target, times(o.strict[r], "tunnel"), r.reason, r.key)
	}
	return b.String()
}
