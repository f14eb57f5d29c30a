package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/sallyport/sallyport/internal/stepapi"
	"github.com/sallyport/sallyport/step/query"
)

// aspects name the check of the token that a reason of a refusal is about.
var aspects = map[string]string{
	"credential_malformed": "token shape", "credential_too_large": "token shape", "credential_algorithm": "token shape",
	"credential_issuer": "token issuer", "credential_key_unknown": "token issuer", "credential_signature": "token issuer",
	"credential_audience": "token audience",
	"credential_expired":  "token expiry", "credential_not_yet_valid": "token expiry", "credential_lifetime": "token expiry",
	"credential_workspace": "token workspace", "credential_subject": "token step", "credential_claims": "token step",
	"credential_revoked": "token revocation",
}

// checkServer lets the server check the token, and evaluate the targets.
func (x *examination) checkServer(ctx context.Context, proxies []query.Proxy, c *claims) {
	if c == nil && x.secret.IsZero() && x.Step != nil {
		x.checkThroughForwarder(ctx)
		return
	}
	if len(proxies) == 0 || c == nil {
		x.add("server", Skipped, "not asked: no proxy is usable, or the token is missing", "")
		x.skipTargets("no proxy is usable, or the token is missing")
		return
	}
	accepted := 0
	for _, p := range proxies {
		client, err := x.client([]query.Proxy{p})
		if err != nil {
			x.fail("server", "correct the configuration", "%v", err)
			continue
		}
		s, err := client.Step(ctx)
		if err != nil {
			x.refused(p, err)
			continue
		}
		accepted++
		x.ok("server", "%s accepts the token: %s", p.Address, describe(s))
		if s.Mode == stepapi.ModeReport {
			x.reportMode()
		}
	}
	x.checkTargets(ctx, proxies, accepted > 0)
}

// checkThroughForwarder lets the server check the forwarder's token.
func (x *examination) checkThroughForwarder(ctx context.Context) {
	s, err := x.Step(ctx)
	if err != nil {
		x.fail("server", "check the lines above, and start the forwarder again in a new step", "through the forwarder: %v", err)
		x.skipTargets("the server does not accept the token")
		return
	}
	x.ok("server", "it accepts the forwarder's token: %s", describe(s))
	if s.Mode == stepapi.ModeReport {
		x.reportMode()
	}
	if len(x.Targets) > 0 {
		x.addTargets(x.Evaluate(ctx, x.Targets))
	}
}

// skipTargets states that no target was evaluated.
func (x *examination) skipTargets(cause string) {
	for _, target := range x.Targets {
		x.add("target", Skipped, target+" not asked: "+cause, "")
	}
}

// reportMode states what report mode means for the step.
func (x *examination) reportMode() {
	x.add("policy", OK, "report mode: requests that the policy denies pass, and are recorded", "")
}

func (x *examination) refused(p query.Proxy, err error) {
	r, ok := errors.AsType[*query.Refusal](err)
	if !ok {
		x.fail("server", "check the connection, or ask the operator of the proxy", "%s: %v", p.Address, err)
		return
	}
	detail, remedy, found := strings.Cut(strings.TrimPrefix(r.Error(), "sallyport: "), ". What to do: ")
	if !found {
		remedy = "see docs/reasons.md for the reason"
	}
	// The local check of the same aspect was too optimistic.
	if name := aspects[r.Reason]; name != "" {
		for i := range x.checks {
			if x.checks[i].Name == name && x.checks[i].Outcome != Failed {
				x.checks[i].Outcome, x.checks[i].Remedy = Failed, x.clean(strings.TrimSuffix(remedy, "."))
				x.checks[i].Detail += "; the server does not accept it: " + x.clean(r.Reason)
			}
		}
	}
	x.fail("server", strings.TrimSuffix(remedy, "."), "%s: status %d, %s", p.Address, r.Status, detail)
}

// describe states how the server identified the step.
func describe(s *stepapi.Step) string {
	p := &s.Principal
	name := p.Repository
	if name == "" {
		name = "repository " + p.RepositoryUUID
	}
	switch {
	case p.Deployment != "":
		name += ", deployment " + p.Deployment
	case p.DeploymentUUID != "":
		name += ", deployment " + p.DeploymentUUID
	}
	if p.Branch != "" {
		name += ", branch " + p.Branch
	}
	return fmt.Sprintf("%s; mode %s; %d allowed and %d denied requests so far", name, s.Mode, s.Requests.Allowed, s.Requests.Denied)
}

// checkTargets lets the server evaluate the targets.
func (x *examination) checkTargets(ctx context.Context, proxies []query.Proxy, accepted bool) {
	if len(x.Targets) == 0 {
		return
	}
	if !accepted {
		x.skipTargets("the server does not accept the token")
		return
	}
	client, err := x.client(proxies)
	if err != nil {
		x.fail("target", "correct the configuration", "%v", err)
		return
	}
	x.addTargets(client.Evaluate(ctx, x.Targets))
}

// addTargets adds the server's decisions about the targets.
func (x *examination) addTargets(e *stepapi.Evaluations, err error) {
	if err != nil {
		x.fail("target", "ask the operator of the proxy", "the server did not evaluate the targets: %v", err)
		return
	}
	for _, v := range e.Evaluations {
		cause := v.Reason
		if v.Rule != "" {
			cause += ", rule " + v.Rule
		}
		if v.Message != "" {
			cause += ": " + v.Message
		}
		if v.DecisionID != "" {
			cause += "; decision " + v.DecisionID
		}
		switch {
		case v.Verdict != stepapi.VerdictAllow:
			x.fail("target", v.Next, "%s is denied: %s", v.Target, cause)
		case v.WouldDeny:
			x.warn("target", v.Next, "%s passes only because of report mode: %s", v.Target, cause)
		default:
			x.ok("target", "%s is allowed (%s)", v.Target, cause)
		}
	}
}
