package rego

import (
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego/functions"
)

// combine makes a decision of the results of the organization's and the repository's
// policy. It never fails, and allows only where the code below sets policy.Allow.
//
// Rules names the rules that matched, the deciding ones first: for a denial its denies and
// then the allows that they override; for an allow its allows and then, if a repository's
// is among them, the delegates; in report mode the reports last. Rule is the first of
// them. If only report mode allows the request, Rule is a report.
func combine(organization, repository results, in *evalInput) policy.Decision {
	denies := slices.Concat(organization[setDeny], repository[setDeny])
	delegates := organization[setDelegate]
	reports := organization[setReport]

	allows := counting(organization[setAllow], in)
	delegated := false
	if len(delegates) > 0 {
		own := counting(repository[setAllow], in)
		delegated = len(own) > 0
		allows = append(allows, own...)
	}

	var d policy.Decision
	switch {
	case len(denies) > 0:
		d.Reason = policy.PolicyDenied
		d.Message = message(denies)
		d.Rules = ids(denies, allows)
	case len(allows) == 0:
		d.Reason = policy.NoRuleMatched
	default:
		d.Verdict, d.Reason = policy.Allow, policy.PolicyAllowed
		d.Message = message(allows)
		d.Rules = ids(allows)
		if delegated {
			d.Rules = merged(d.Rules, ids(delegates))
		}
	}
	if len(reports) > 0 && !slices.ContainsFunc(denies, func(e entry) bool { return e.always }) {
		d.Mode = policy.Report
		if d.Verdict == policy.Deny {
			d.Verdict, d.WouldDeny = policy.Allow, true
			if d.Message == "" {
				d.Message = message(reports)
			}
		}
		d.Rules = merged(d.Rules, ids(reports))
	}
	if len(d.Rules) > 0 {
		d.Rule = d.Rules[0]
	}
	if d.Verdict == policy.Allow {
		strictest(&d, allows)
	}
	return d
}

// counting returns the allows that count for an input: not expired, and for an IP
// literal only with allow_ip_literal: true.
func counting(allows []entry, in *evalInput) []entry {
	var count []entry
	for _, e := range allows {
		if !e.expires.IsZero() {
			in.span.Limit(functions.UntilOrFrom(in.time, e.expires))
		}
		if !e.expires.IsZero() && !in.time.Before(e.expires) {
			continue
		}
		if in.address && !e.address {
			continue
		}
		count = append(count, e)
	}
	return count
}

// strictest sets the limits of an allow from all allows that count. In report mode without
// an allow nothing is relaxed: TLS only, no limits, and no IP literal, because report mode
// relaxes no check of addresses.
func strictest(d *policy.Decision, allows []entry) {
	if len(allows) == 0 {
		return
	}
	d.Protocol, d.Address, d.ECH, d.NoSNI = policy.ProtocolAny, true, true, true
	for _, e := range allows {
		if e.protocol != policy.ProtocolAny {
			d.Protocol = policy.ProtocolTLS
			// protocol: "any" requires no ClientHello, so it includes both relaxations.
			d.ECH, d.NoSNI = d.ECH && e.ech, d.NoSNI && e.noSNI
		}
		d.Address = d.Address && e.address
		d.Limits.Lifetime = least(d.Limits.Lifetime, e.limits.Lifetime)
		d.Limits.Idle = least(d.Limits.Idle, e.limits.Idle)
		d.Limits.Sent = least(d.Limits.Sent, e.limits.Sent)
		d.Limits.Received = least(d.Limits.Received, e.limits.Received)
		d.Limits.StepSent = least(d.Limits.StepSent, e.limits.StepSent)
		d.Limits.StepReceived = least(d.Limits.StepReceived, e.limits.StepReceived)
		d.Expires = earliest(d.Expires, e.expires)
	}
	if d.Protocol == policy.ProtocolAny {
		d.ECH, d.NoSNI = false, false // there is no ClientHello to accept
	}
}

// least is the smaller of two limits; 0 is no limit.
func least[N int64 | time.Duration](a, b N) N {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// ids lists the ids of each group in alphabetical order, without repetition.
func ids(groups ...[]entry) []string {
	var all []string
	for _, group := range groups {
		names := make([]string, 0, len(group))
		for _, e := range group {
			names = append(names, e.rule)
		}
		slices.Sort(names)
		all = merged(all, names)
	}
	return all
}

// merged appends the items of more that to lacks.
func merged(to, more []string) []string {
	for _, s := range more {
		if !slices.Contains(to, s) {
			to = append(to, s)
		}
	}
	return to
}

// message is the message of the first rule in alphabetical order that has one.
func message(entries []entry) string {
	var best entry
	for _, e := range entries {
		if e.message == "" {
			continue
		}
		if best.message == "" || strings.Compare(e.rule, best.rule) < 0 || e.rule == best.rule && e.message < best.message {
			best = e
		}
	}
	return best.message
}
