package rego

import (
	"errors"
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/sallyport/sallyport/policy/rego/check"
)

// entryPlaces are the locations of the entries of the sets, by set and id: ids are literal
// strings, so the location of an entry is known before an evaluation.
func entryPlaces(d *domain, modules map[string]*ast.Module) map[string]*ast.Location {
	places := map[string]*ast.Location{}
	for _, path := range slices.Sorted(maps.Keys(modules)) {
		for _, rule := range modules[path].Rules {
			entry, ok := keyObject(rule.Head)
			if !ok || !d.isSet(check.RuleName(rule)) {
				continue
			}
			id := entry.Get(ast.StringTerm("rule"))
			if id == nil {
				continue
			}
			key := check.RuleName(rule) + "\x00" + id.Value.String()
			if places[key] == nil {
				places[key] = rule.Location
			}
		}
	}
	return places
}

// withPlace gives an error the place of the rule that an entry of a set comes from; places
// are those of [entryPlaces].
func withPlace(places map[string]*ast.Location, set string, entry ast.Value, err error) error {
	object, ok := entry.(ast.Object)
	if !ok {
		return err
	}
	id := object.Get(ast.StringTerm("rule"))
	if id == nil {
		return err
	}
	loc := places[set+"\x00"+id.Value.String()]
	if loc == nil {
		return err
	}
	return at(loc, nil, err.Error(), "")
}

// located gives an error of an evaluation the location that OPA reports.
func located(err error) error {
	failure, ok := errors.AsType[*topdown.Error](err)
	if !ok || failure.Location == nil || failure.Location.File == "" {
		return err
	}
	return at(failure.Location, nil, failure.Message, "")
}
