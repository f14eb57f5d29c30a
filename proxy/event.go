package proxy

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/destination"
	"github.com/sallyport/sallyport/internal/uuid"
	"github.com/sallyport/sallyport/policy"
)

// event copies what is known so far into an audit event, and gives the evaluation
// its decision id.
func (p *evaluation) event(verdict policy.Verdict, reason policy.Reason) *audit.Event {
	if p.id == "" {
		p.id = uuid.NewV7(p.started)
	}
	d := &p.decision
	e := &audit.Event{
		Time:       p.started,
		Kind:       audit.KindDecision,
		DecisionID: p.id,
		Listener:   p.attempt.Listener,
		Action:     string(p.attempt.Action),
		Verdict:    verdict.String(),
		Mode:       d.Mode.String(),
		WouldDeny:  d.WouldDeny && verdict == policy.Allow,
		Reason:     string(reason),
		Rule:       d.Rule,
		Rules:      d.Rules,
		Message:    d.Message,
		Revision:   d.Revision.Digest,
		Commit:     d.Revision.Commit,

		RepositoryRevision: d.RepositoryRevision.Digest,

		Input: d.Input,
	}
	e.Source = p.source()
	e.ClientAddress = p.attempt.Client.Addr().Unmap()
	copyPrincipal(e, p.principal)
	copyTarget(e, p.target, p.attempt.Action, d.Protocol)
	if p.target.Host == "" || p.attempt.Action == policy.Connect && p.attempt.Target != p.target.String() {
		e.TargetRaw = withoutSecrets(p.attempt.Target)
	}
	if h := p.attempt.HTTP; h != nil {
		e.Method, e.Path = h.Method, h.Path
	}
	if p.upstream != nil {
		e.UpstreamProxy = p.upstream.String()
	}
	if verdict == policy.Allow && len(p.pinned) > 0 {
		e.Addresses = make([]netip.Addr, len(p.pinned))
		for i, a := range p.pinned {
			e.Addresses[i] = a.Addr()
		}
		e.DialedAddress = e.Addresses[0]
	}
	e.Attributes = p.attributes(verdict)
	copyExceptions(e, d.Exceptions)
	return e
}

// attributes returns what the event's fields do not have.
func (p *evaluation) attributes(verdict policy.Verdict) (list []audit.Attribute) {
	add := func(name, value string) { list = append(list, audit.Attribute{Name: name, Value: value}) }
	if p.attempt.Peer.IsValid() {
		add("proxy_protocol_peer", p.attempt.Peer.Unmap().String())
	}
	if p.tunnel != "" {
		add("tunnel", p.tunnel)
	}
	if len(p.prohibited) > 0 {
		add("prohibited_addresses", strings.Join(p.prohibited, ", "))
	}
	if relaxed := relaxationsOf(&p.decision); relaxed != "" && verdict == policy.Allow && p.attempt.Action == policy.Connect {
		add(audit.Relaxed, relaxed)
	}
	return list
}

// relaxationsOf lists the keys of the rule that relax the check of the ClientHello.
func relaxationsOf(d *policy.Decision) string {
	switch {
	case d.ECH && d.NoSNI:
		return "ech, no_sni"
	case d.ECH:
		return "ech"
	case d.NoSNI:
		return "no_sni"
	}
	return ""
}

// source is whose share of the log's queues the attempt's events take. A step whose
// credential is not accepted takes its address's, or anybody who got hold of an
// ended token could use up a repository's.
func (p *evaluation) source() audit.Source {
	if p.principal == nil || p.credentialRefused {
		return audit.Source{Step: p.attempt.Client.Addr().Unmap().String()}
	}
	return sourceOf(p.principal)
}

func copyExceptions(e *audit.Event, applied []policy.AppliedException) {
	list := make([]audit.AppliedException, len(applied))
	for i, x := range applied {
		list[i] = audit.AppliedException{Path: x.Path, Owner: x.Owner, Ticket: x.Ticket, Hosts: x.Hosts, Until: x.Until}
	}
	e.AddExceptions(list)
}

// copyTarget copies the canonical target. A tunnel contains TLS unless its decision
// allows any protocol; the scheme is https then.
func copyTarget(e *audit.Event, t destination.Target, action policy.Action, protocol policy.Protocol) {
	e.Host, e.Port, e.Scheme = t.Host, t.Port, t.Scheme
	if action == policy.Connect && t.Host != "" && protocol == policy.ProtocolTLS {
		e.Scheme = "https"
	}
}

// withoutSecrets removes from an invalid target what is often secret in a valid one: the
// query, and everything before an @. Nothing in the log can be deleted later.
func withoutSecrets(raw string) string {
	if i := strings.IndexAny(raw, "?#"); i >= 0 {
		raw = raw[:i+1] + "…"
	}
	if i := strings.LastIndexByte(raw, '@'); i >= 0 {
		raw = "…" + raw[i:]
	}
	return raw
}

// line writes the canonical line of a decision: one for each, under constant names.
func (p *evaluation) line(verdict policy.Verdict, r *Refusal) {
	if !p.gate.config.Log.Enabled(context.Background(), slog.LevelInfo) {
		return
	}
	d := &p.decision
	attrs := make([]slog.Attr, 0, 24)
	attrs = append(attrs,
		slog.String("decision_id", p.id),
		slog.String("verdict", verdict.String()),
		slog.String("mode", d.Mode.String()),
		slog.Bool("would_deny", d.WouldDeny && verdict == policy.Allow),
	)
	if r != nil {
		attrs = append(attrs, slog.String("reason", string(r.Reason)), slog.Int("status", r.Status))
		if r.Detail != "" {
			attrs = append(attrs, slog.String("detail", r.Detail))
		}
	} else {
		attrs = append(attrs, slog.String("reason", string(d.Reason)))
	}
	attrs = append(attrs, slog.String("rule", d.Rule))
	attrs = appendPrincipal(attrs, p.principal)
	attrs = append(attrs,
		slog.String("action", string(p.attempt.Action)),
		slog.String("host", p.target.Host),
		slog.Int("port", int(p.target.Port)),
		slog.String("client_address", p.attempt.Client.Addr().Unmap().String()),
		slog.String("listener", p.attempt.Listener),
		slog.String("revision", d.Revision.Digest),
		slog.Duration("duration", p.gate.config.Now().Sub(p.began)),
	)
	p.gate.config.Log.LogAttrs(context.Background(), slog.LevelInfo, "decision", attrs...)
}
