package sallyport.egress

# Only the production deployment of acme/payments reaches the partner. The mutants
# and the attacks against them stand on this rule as well.
allow contains {"rule": "partner-api"} if {
	input.principal.repository.full_name == "acme/payments"
	input.principal.deployment.type == "production"
	input.target.host == "api.partner.example"
}

# What every step of the workspace needs.
everybody := {
	"files.partner.example",
	"git.partner.example",
	"registry.partner.example",
	# allowed by policy, prohibited by their addresses
	"intranet.partner.example",
	"loopback.partner.example",
	"proxy.partner.example",
	"unknown.partner.test",
}

allow contains {"rule": "everybody"} if input.target.host in everybody

# A protocol of its own.
allow contains {"rule": "raw", "protocol": "any"} if input.target.host == "raw.partner.example"

# An IP literal is not covered by a rule that does not set allow_ip_literal: true.
allow contains {"rule": "literal"} if input.target.host == "127.0.0.1"

delegate contains {"rule": "tools-decide"} if input.principal.repository.full_name == "acme/tools"
