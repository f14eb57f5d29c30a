package rego

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/webhook"
)

// checkRoute checks the keys of a route that are literal.
func (l *loader) checkRoute(rule *ast.Rule, entry ast.Object) {
	action, endpoint := entry.Get(ast.StringTerm("action")), entry.Get(ast.StringTerm("endpoint"))
	if action == nil {
		l.fail(at(rule.Head.Location, rule.Location, "the route has no action", `add "action": "forward" and "endpoint", or one of refresh_policy, refresh_names, refresh_resource`))
		return
	}
	name, ok := action.Value.(ast.String)
	if !ok {
		return // known only when it is evaluated, and checked then
	}
	needs, ok := routeActions[webhook.Action(name)]
	switch {
	case !ok: // reported as a value
	case needs && endpoint == nil:
		l.fail(at(action.Location, rule.Location, fmt.Sprintf("the action %s needs an endpoint", string(name)), `add "endpoint": "…", a name in webhooks.endpoints`))
	case !needs && endpoint != nil:
		l.fail(at(endpoint.Location, rule.Location, fmt.Sprintf("the action %s has no endpoint", string(name)), `remove "endpoint", or write "action": "forward"`))
	}
}
