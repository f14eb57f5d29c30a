package rego

import (
	"slices"

	"github.com/sallyport/sallyport/webhook"
)

const deliveryFile = "-- webhook/a.rego --\npackage sallyport.webhook\n\nallow contains {\"rule\": \"all\"} if input.kind == \"cloud\"\n"

// misspelledDeliveryPlaces are the words of rules about deliveries.
func misspelledDeliveryPlaces() []misspelledPlace {
	in := func(name, line string, words ...string) misspelledPlace {
		return misspelledPlace{name: "deliveries: " + name, before: deliveryFile, line: line, words: words}
	}
	ref := func(name, condition string, words ...string) misspelledPlace {
		return in(name, `allow contains {"rule": "r%[1]d"} if { some ref in input.refs; `+condition+` }`, words...)
	}
	sets := in("sets of the organization", `%[2]s contains {"rule": "r%[1]d"} if input.event == "repo:push"`, "allow", "deny", "report")
	own := misspelledPlace{name: "deliveries: sets of a repository", before: "-- repositories/acme/tools/webhook/a.rego --\npackage sallyport.webhook_repository[\"acme/tools\"]\n\n",
		line: `%[2]s contains {"rule": "r%[1]d"} if input.event == "repo:push"`, words: []string{"deny"}}
	route := in("the set of routes", `%[2]s contains {"rule": "r%[1]d", "action": "refresh_policy"} if input.event == "repo:push"`, "route")
	field := ref("fields of a ref", `ref.%[2]s == input.event`, deliveries.schema().fields["refs.*"]...)
	sets.identifier, own.identifier, route.identifier, field.identifier = true, true, true, true
	places := []misspelledPlace{
		sets, own, route, field,
		in("keys of a deny", `deny contains {"rule": "r%d", "%s": true} if input.event == "repo:push"`, "enforce_in_report_mode"),
		in("keys of a route", `route contains {"rule": "r%d", "%s": "refresh_policy"} if input.event == "repo:push"`, "action"),
		in("the endpoint", `route contains {"rule": "r%d", "action": "forward", "%s": "x"} if input.event == "repo:push"`, "endpoint"),
		in("actions", `route contains {"rule": "r%d", "action": "%s"} if input.event == "repo:push"`, string(webhook.RefreshPolicy), string(webhook.RefreshNames)),
		in("actions with an endpoint", `route contains {"rule": "r%d", "action": "%s", "endpoint": "x"} if input.event == "repo:push"`, string(webhook.Forward), string(webhook.RefreshResource)),
		in("kinds", `allow contains {"rule": "r%d"} if input.kind == "%s"`, "cloud", "data_center"),
		in("states", `allow contains {"rule": "r%d"} if input.pull_request.state == "%s"`, "OPEN", "MERGED", "DECLINED", "SUPERSEDED"),
		ref("types of refs", `ref.type == "%[2]s"`, string(webhook.Branch), string(webhook.Tag)),
		ref("changes of refs", `ref.change == "%[2]s"`, string(webhook.Created), string(webhook.Updated), string(webhook.Deleted)),
	}
	events := in("events", `allow contains {"rule": "r%d"} if input.event == "%s"`, "repo:push", "pr:merged")
	events.valid = slices.Concat(webhook.Events(webhook.Cloud), webhook.Events(webhook.DataCenter))
	places = append(places, events)
	for _, path := range []string{"", "actor"} {
		fields, parent := deliveries.schema().fields[path], "input."
		if path != "" {
			parent += path + "."
		}
		p := in("fields of "+parent, `allow contains {"rule": "r%d"} if json.marshal(`+parent+`%s) == input.event`, fields...)
		p.identifier = true
		places = append(places, p)
	}
	return places
}
