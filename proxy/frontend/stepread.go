package frontend

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/stepapi"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// readStep returns what a step has requested, in one of the forms.
func (c *conn) readStep(ctx context.Context, of *proxy.Inquiry, form string) ([]byte, *proxy.Refusal) {
	s := c.server
	entries, counts, err := s.config.Steps.Step(ctx, of.Principal, stepapi.MaxEntries+1)
	if err != nil {
		s.config.Log.Warn("requests of a step not read", "step_uuid", of.Principal.Step.UUID, "error", err)
		return nil, proxy.NewRefusal(policy.AuditUnavailable, "the audit log cannot be read at the moment")
	}
	step := c.stepOf(ctx, of, counts)
	step.Entries, step.More = c.shownEntries(entries)
	if form == stepapi.FormatJSON {
		return asJSON(step), nil
	}
	return stepText(step), nil
}

// stepOf returns what the server knows of a step without its entries.
func (c *conn) stepOf(ctx context.Context, of *proxy.Inquiry, counts stepapi.Requests) *stepapi.Step {
	gate := c.server.config.Gate
	mode, revision := gate.Active(ctx, of)
	limits := gate.StepLimits()
	return &stepapi.Step{
		Principal:    stepPrincipal(of.Principal),
		TokenExpires: of.Principal.Expires.UTC(),
		Mode:         mode.String(),
		Revision:     stepapi.Revision{Digest: revision.Digest, Commit: revision.Commit},
		Requests:     counts,
		Limits: stepapi.Limits{OpenTunnels: limits.Tunnels, RequestsPerSecond: limits.RequestsPerSecond,
			ConcurrentDials: limits.Dials, HeaderBytes: limits.HeaderBytes},
	}
}

func stepPrincipal(p *identity.Principal) stepapi.Principal {
	s := stepapi.Principal{
		Issuer: p.Issuer, WorkspaceUUID: p.Workspace.UUID, Workspace: p.Workspace.Slug,
		RepositoryUUID: p.Repository.UUID, Repository: p.Repository.FullName,
		PipelineUUID: p.Pipeline.UUID, StepUUID: p.Step.UUID, Branch: p.Branch,
	}
	if d := p.Deployment; d != nil {
		s.DeploymentUUID, s.Deployment, s.DeploymentType = d.UUID, cmp.Or(d.Slug, d.Name), d.Type
	}
	return s
}

// shownEntries returns the entries in the order of time, each with what to do about it. Of
// the problems, and of the targets with allowed requests, the latest are listed; more is
// true if there are others.
func (c *conn) shownEntries(entries []stepapi.Entry) (list []stepapi.Entry, more bool) {
	var problems, allowed int
	list = make([]stepapi.Entry, 0, len(entries))
	for _, e := range entries { // the newest first
		count := &allowed
		if e.Kind == stepapi.KindRefused || e.Kind == stepapi.KindClosed || e.Kind == stepapi.KindWouldClose {
			count = &problems
		}
		if *count++; *count > stepapi.MaxEntries {
			more = true
			continue
		}
		list = append(list, c.explained(e))
	}
	slices.SortStableFunc(list, func(a, b stepapi.Entry) int { return a.Time.Compare(b.Time) })
	return list, more
}

// explained adds what happened and what to do about it.
func (c *conn) explained(e stepapi.Entry) stepapi.Entry {
	switch e.Kind {
	case stepapi.KindClosed, stepapi.KindWouldClose:
		explained, _ := proxy.Cause(e.CloseReason).Explain()
		e.Message, e.Next = cmp.Or(e.Message, explained.What), explained.Next
	case stepapi.KindRefused, stepapi.KindWouldDeny:
		e.Next = proxy.NewRefusal(policy.Reason(e.Reason), "").Next(c.listener.TLS != nil)
	}
	return e
}

// asJSON marshals a response: texts, numbers and times of this century.
func asJSON(v any) []byte {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return []byte("{}\n")
	}
	return append(b, '\n')
}
