package check

import (
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/webhook"
)

// Entries finds invalid values that an entry gets from another literal or from a
// document, such as limits with an unknown key, and endpoints that are not configured. Other literals in the entry itself are
// checked elsewhere.
func Entries(u *Unit) []Finding {
	if u.EntryValue == nil {
		return nil
	}
	o := &operands{unit: u, rules: newRules(u), done: map[string]bool{}}
	for _, path := range slices.Sorted(maps.Keys(u.Resolved)) {
		for _, rule := range u.Resolved[path].Rules {
			if rule.Head.Key == nil || !slices.Contains(u.Sets, RuleName(rule)) {
				continue
			}
			entry, ok := rule.Head.Key.Value.(ast.Object)
			if !ok {
				continue
			}
			o.scope, o.at = o.rules.scopes[rule], rule
			entry.Foreach(func(k, v *ast.Term) {
				key, ok := k.Value.(ast.String)
				switch {
				case ok && unknown(v) && (key == "limits" || key == "protocol" || key == "action"):
					o.entryValue(string(key), v)
				case ok && key == "endpoint":
					o.endpoint(entry, v)
				}
			})
		}
	}
	return o.found
}

// endpoint judges the endpoint of a route by the configured endpoints or resources, if they
// are known.
func (o *operands) endpoint(entry ast.Object, t *ast.Term) {
	known, message := o.unit.Endpoints, UnknownEndpoint
	switch action := entry.Get(ast.StringTerm("action")); {
	case action == nil || unknown(action):
		if known != nil {
			known = slices.Concat(known, o.unit.Resources)
		}
	case ast.String(webhook.RefreshResource).Compare(action.Value) == 0:
		known, message = o.unit.Resources, UnknownResource
	}
	for _, from := range o.scope.origins(t) {
		if from.member {
			continue
		}
		o.judge(from, "endpoint", func(v found) []Finding {
			s, ok := v.value.Value.(ast.String)
			if !ok {
				return nil
			}
			return o.unit.reported(v, configured(known, message, string(s)))
		})
	}
}

func (o *operands) entryValue(key string, t *ast.Term) {
	for _, from := range o.scope.origins(t) {
		if from.member {
			continue
		}
		o.judge(from, "entry "+key, func(v found) []Finding {
			if unknown(v.value) || hasReferences(v.value) {
				return nil
			}
			message, hint := o.unit.EntryValue(key, v.value.Value)
			if message == "" {
				return nil
			}
			return []Finding{o.unit.place(v, o.at.Location, key+" "+message, hint)}
		})
	}
}
