# Run by sallyport policy test, and before a new revision decides anything.
package sallyport.egress_test

import data.sallyport.egress

# What a step looks like. Tests may have fixtures in a package of their own; no
# rule can read them.
step(repository) := {"kind": "bitbucket_step", "repository": {"full_name": repository}, "branch": "main"}

asks(principal, host) := {
	"principal": principal,
	"action": "connect",
	"target": {"host": host, "port": 443},
	"time": "2026-11-21T08:40:00Z",
}

rules(set) := {entry.rule | some entry in set}

# The list is empty to begin with: data/shared/hosts.yaml.
test_registries_are_open_to_everybody if {
	asked := asks(step("acme/anything"), "registry.packages.example")
	rules(egress.allow) == {"shared-registries"} with input as asked with data.shared.registries as {"registry.packages.example"}
	egress.allow == set() with input as asked with data.shared.registries as {}
}

test_registries_on_their_port_only if {
	asked := object.union(asks(step("acme/anything"), "registry.packages.example"), {"target": {"port": 8443}})
	egress.allow == set() with input as asked with data.shared.registries as {"registry.packages.example"}
}

test_paste_sites_are_closed_always if {
	some host in {"pastebin.com", "api.pastebin.com"}
	denies := egress.deny with input as asks(step("acme/anything"), host)
	{entry.rule | some entry in denies; entry.enforce_in_report_mode} == {"no-paste-sites"}
}

test_metadata_is_closed if {
	rules(egress.deny) == {"no-metadata"} with input as asks(step("acme/website"), "169.254.169.254")
}

test_everything_is_observed_until_it_is_enforced if {
	asked := asks(step("acme/website"), "nowhere.example")
	rules(egress.report) == {"observed"} with input as asked with data.rollout.enforced as []
	egress.report == set() with input as asked with data.rollout.enforced as ["acme/website"]
}

test_a_repository_has_rules_of_its_own_where_it_is_listed if {
	asked := asks(step("acme/payments"), "nowhere.example")
	rules(egress.delegate) == {"own-rules"} with input as asked with data.rollout.delegated as ["acme/payments"]
	egress.delegate == set() with input as asked with data.rollout.delegated as ["acme/website"]
}

exceptions := [{
	"repository": "acme/website",
	"hosts": ["fonts.design.example"],
	"owner": "kim@acme.example",
	"ticket": "WEB-142",
	"until": "2027-03-31T00:00:00Z",
}]

test_exception_counts_until_its_end if {
	asked := asks(step("acme/website"), "fonts.design.example")
	rules(egress.allow) == {"exception"} with input as asked
		with data.exceptions.list as exceptions
		with time.now_ns as time.parse_rfc3339_ns("2027-03-30T23:59:59Z")
	egress.allow == set() with input as asked
		with data.exceptions.list as exceptions
		with time.now_ns as time.parse_rfc3339_ns("2027-03-31T00:00:00Z")
}

test_exception_is_for_its_repository if {
	asked := asks(step("acme/payments"), "fonts.design.example")
	egress.allow == set() with input as asked
		with data.exceptions.list as exceptions
		with time.now_ns as time.parse_rfc3339_ns("2026-12-01T00:00:00Z")
}
