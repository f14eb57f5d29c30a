package rego

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego/check"
	"github.com/sallyport/sallyport/webhook"
)

// IgnoredActions returns a warning for each configured action of a receiver that no rule
// of route has: with rules about deliveries, the configured actions do not apply. Routes
// whose action or endpoint is not literal may have any. Files that do not parse are left to
// [Check].
func IgnoredActions(snapshot *policy.Snapshot, configured map[string][]webhook.Route) Errors {
	routes, decides := LiteralRoutes(snapshot)
	if !decides {
		return nil
	}
	var warnings Errors
	for _, receiver := range slices.Sorted(maps.Keys(configured)) {
		for _, r := range configured[receiver] {
			if slices.ContainsFunc(routes, func(o webhook.Route) bool {
				return (o.Action == "" || o.Action == r.Action) && (o.Endpoint == "" || o.Endpoint == r.Endpoint)
			}) {
				continue
			}
			action, entry := string(r.Action), fmt.Sprintf(`"action": %q`, r.Action)
			if r.Endpoint != "" {
				action, entry = action+" to "+r.Endpoint, entry+fmt.Sprintf(`, "endpoint": %q`, r.Endpoint)
			}
			warnings = append(warnings, Error{File: deliveries.folder, Message: "the configured action " + action + " of the receiver " + receiver + " has no effect: with rules about deliveries, only rules of route send them",
				Hint: fmt.Sprintf(`add: route contains {"rule": "an-id", %s} if input.receiver == %q`, entry, receiver)})
		}
	}
	return warnings
}

// LiteralRoutes returns the routes of the organization's rules. An action or endpoint that is
// not literal is empty, as is the endpoint of an action without one. decides reports whether
// the snapshot has rules about deliveries. Files that do not parse have no routes.
func LiteralRoutes(snapshot *policy.Snapshot) (routes []webhook.Route, decides bool) {
	for _, f := range snapshot.Files {
		if !strings.HasPrefix(f.Path, deliveries.folder+"/") || !strings.HasSuffix(f.Path, ".rego") || isTestFile(f.Path) {
			continue
		}
		decides = true
		module, err := (&loader{}).parse(source{path: f.Path, content: f.Content})
		if err != nil {
			continue
		}
		for _, rule := range module.Rules {
			if check.RuleName(rule) != setRoute {
				continue
			}
			var route webhook.Route // of a computed entry, nothing is known
			if entry, ok := keyObject(rule.Head); ok {
				route = webhook.Route{Action: webhook.Action(literalOf(entry, "action")), Endpoint: literalOf(entry, "endpoint")}
			}
			routes = append(routes, route)
		}
	}
	return routes, decides
}

// literalOf is the text of a key of an entry, empty if it is not literal.
func literalOf(entry ast.Object, key string) string {
	t := entry.Get(ast.StringTerm(key))
	if t == nil {
		return ""
	}
	s, _ := t.Value.(ast.String)
	return string(s)
}
