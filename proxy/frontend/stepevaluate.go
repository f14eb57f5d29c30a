package frontend

import (
	"cmp"
	"context"
	"strings"

	"github.com/sallyport/sallyport/internal/stepapi"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// evaluateTargets evaluates targets for a step. Each is recorded before the response: a
// policy that answers without a trace could be searched for what it allows.
func (c *conn) evaluateTargets(ctx context.Context, of *proxy.Inquiry, query stepQuery) ([]byte, *proxy.Refusal) {
	gate := c.server.config.Gate
	answer := &stepapi.Evaluations{Evaluations: make([]stepapi.Evaluation, 0, len(query.targets))}
	mode, revision := gate.Active(ctx, of)
	answer.Mode, answer.Revision = mode.String(), stepapi.Revision{Digest: revision.Digest, Commit: revision.Commit}
	for _, target := range query.targets {
		e, refusal := gate.Evaluate(ctx, of, target)
		if refusal != nil {
			return nil, refusal
		}
		answer.Evaluations = append(answer.Evaluations, c.evaluationOf(&e))
	}
	if query.form == stepapi.FormatJSON {
		return asJSON(answer), nil
	}
	return evaluationsText(answer), nil
}

func (c *conn) evaluationOf(e *proxy.Evaluated) stepapi.Evaluation {
	d := &e.Decision
	v := stepapi.Evaluation{Target: e.Target, Verdict: stepapi.VerdictDeny, Rule: d.Rule, DecisionID: e.ID}
	if r := e.Refusal; r != nil {
		v.Reason, v.Message, v.Next = string(r.Reason), cmp.Or(r.Message, r.Detail), r.Next(c.listener.TLS != nil)
		return v
	}
	v.Verdict, v.WouldDeny, v.Reason, v.Message = stepapi.VerdictAllow, d.WouldDeny, string(d.Reason), d.Message
	v.Protocol, v.ECH, v.NoSNI = d.Protocol.String(), d.ECH, d.NoSNI
	if d.WouldDeny {
		v.Next = proxy.NewRefusal(policy.Reason(d.Reason), "").Next(c.listener.TLS != nil)
	}
	return v
}

// evaluationsText is one line for each target.
func evaluationsText(answer *stepapi.Evaluations) []byte {
	var b strings.Builder
	for i := range answer.Evaluations {
		e := &answer.Evaluations[i]
		what := e.Verdict
		if e.WouldDeny {
			what = stepapi.KindWouldDeny
		}
		b.WriteString(what + " " + plain(e.Reason, maxRuleShown) + " " + plain(e.Target, maxShown))
		if e.Message != "" {
			b.WriteString(": " + plain(e.Message, maxShown))
		}
		b.WriteString(" (")
		if e.Rule != "" {
			b.WriteString("rule " + plain(e.Rule, maxRuleShown) + ", ")
		}
		b.WriteString("decision " + plain(e.DecisionID, maxRuleShown) + ")")
		if e.Next != "" {
			b.WriteString(". What to do: " + plain(e.Next, maxShown))
		}
		b.WriteString(".\n")
	}
	return []byte(b.String())
}
