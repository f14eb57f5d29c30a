package sallyport.repository_test["acme/payments"]

import data.sallyport.repository["acme/payments"] as payments

asks(host, port) := {
	"principal": {"kind": "bitbucket_step", "repository": {"full_name": "acme/payments"}},
	"action": "connect",
	"target": {"host": host, "port": port},
}

from_production(host, port) := object.union(asks(host, port), {"principal": {"deployment": {"type": "production"}}})

rules(set) := {entry.rule | some entry in set}

test_partner_from_production if {
	rules(payments.allow) == {"settle-with-partner"} with input as from_production("api.partner.example", 443)
}

test_partner_not_from_a_branch_build if {
	payments.allow == set() with input as asks("api.partner.example", 443)
}

test_partner_on_its_ports_only if {
	rules(payments.allow) == {"settle-with-partner"} with input as from_production("api.partner.example", 8443)
	payments.allow == set() with input as from_production("api.partner.example", 22)
}

test_sandbox_from_anywhere if {
	rules(payments.allow) == {"partner-sandbox"} with input as asks("sandbox.partner.example", 443)
}
