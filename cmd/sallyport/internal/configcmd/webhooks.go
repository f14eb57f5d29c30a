package configcmd

import (
	"fmt"
	"slices"

	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/printable"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego"
	"github.com/sallyport/sallyport/webhook"
)

// checkWebhooks compares the receivers, endpoints and resources with each other, and with the
// rules of the policy about deliveries. snapshot is nil if the policy was not read.
func checkWebhooks(r *checkReport, w *config.Webhooks, snapshot *policy.Snapshot) {
	if w == nil {
		return
	}
	var routes []webhook.Route
	byRules := false
	if snapshot != nil {
		for _, warning := range rego.IgnoredActions(snapshot, w.Routes()) {
			r.warn("policy", warning.Error())
		}
		routes, byRules = rego.LiteralRoutes(snapshot)
	}
	if !byRules {
		for i := range w.Receivers {
			own := w.Receivers[i].Routes()
			if len(own) == 0 {
				r.warn("webhooks", fmt.Sprintf("the receiver %s has no actions, forward_to or refresh_resources%s: its deliveries are recorded only", w.Receivers[i].Name, unless(snapshot)))
			}
			routes = append(routes, own...)
		}
	}
	unused := unusedNames(w, routes)
	for _, name := range unused {
		source := "no receiver"
		if byRules {
			source = "no rule of the policy"
		}
		r.warn("webhooks", fmt.Sprintf("%s sends deliveries to %s%s: correct the name, or remove it", source, name, unless(snapshot)))
	}
	r.add("webhooks", fmt.Sprintf("%s, %s, %s", printable.Count(len(w.Receivers), "receiver"), printable.Count(len(w.Endpoints), "endpoint"), printable.Count(len(w.Resources), "resource")), nil)
}

// unless limits a warning if the policy was not read: its rules may differ from the
// configuration.
func unless(snapshot *policy.Snapshot) string {
	if snapshot != nil {
		return ""
	}
	return " (--online reads the policy, whose rules may)"
}

// unusedNames lists the endpoints and resources that no route has. A route whose endpoint is
// computed may have any.
func unusedNames(w *config.Webhooks, routes []webhook.Route) (unused []string) {
	uses := func(action webhook.Action, name string) bool {
		return slices.ContainsFunc(routes, func(r webhook.Route) bool {
			return (r.Action == "" || r.Action == action) && (r.Endpoint == "" || r.Endpoint == name)
		})
	}
	used := map[string]bool{}
	for i := range w.Resources {
		r := &w.Resources[i]
		if !uses(webhook.RefreshResource, r.Name) {
			unused = append(unused, "the resource "+r.Name)
			continue
		}
		used[r.Endpoint] = true
	}
	for _, e := range w.Endpoints {
		if !used[e.Name] && !uses(webhook.Forward, e.Name) {
			unused = append(unused, "the endpoint "+e.Name)
		}
	}
	return unused
}
