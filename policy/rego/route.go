package rego

import (
	"errors"
	"fmt"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/internal/nearest"
	"github.com/sallyport/sallyport/webhook"
)

// routeActions are what a route may do, and whether the action needs an endpoint.
var routeActions = map[webhook.Action]bool{
	webhook.RefreshPolicy: false, webhook.Forward: true, webhook.RefreshNames: false, webhook.RefreshResource: true,
}

// routeAction reads the action of a route.
func routeAction(value ast.Value) (webhook.Action, error) {
	s, err := text(value)
	if err != nil {
		return "", err
	}
	if _, ok := routeActions[webhook.Action(s)]; !ok {
		var names []string
		for a := range routeActions {
			names = append(names, string(a))
		}
		slices.Sort(names)
		if n := nearest.Of(s, names); n != "" {
			return "", fmt.Errorf("is never %q: did you mean %q?", s, n)
		}
		return "", fmt.Errorf("is never %q", s)
	}
	return webhook.Action(s), nil
}

// checkedRoute is an error if a route lacks its action or endpoint, or has an endpoint that
// its action does not use.
func checkedRoute(r webhook.Route) error {
	needs, ok := routeActions[r.Action]
	switch {
	case !ok:
		return fmt.Errorf("an entry of %s has no action", setRoute)
	case needs && r.Endpoint == "":
		return fmt.Errorf("an entry of %s with the action %s has no endpoint", setRoute, r.Action)
	case !needs && r.Endpoint != "":
		return fmt.Errorf("an entry of %s with the action %s has an endpoint, which the action does not use", setRoute, r.Action)
	}
	return nil
}

// setRoute sets a key of a route.
func (e *entry) setRoute(key string, value ast.Value) (err error) {
	if key == "action" {
		e.route.Action, err = routeAction(value)
		return err
	}
	if e.route.Endpoint, err = text(value); err == nil && e.route.Endpoint == "" {
		err = errors.New("is empty")
	}
	return err
}
