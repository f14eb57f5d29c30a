# What acme/payments needs. Its allows count because egress/rollout.rego delegates
# to it; nothing in here is read for any other repository.
package sallyport.repository["acme/payments"]

import data.sallyport.lib

# The production deployment settles with the partner. Half an hour is plenty for
# it, so a tunnel that is open for longer is a fault or worse. An entry without a
# port means 443; the partner answers on 8443 too.
allow contains {
	"rule": "settle-with-partner",
	"message": "settlement",
	"limits": {"lifetime": "30m", "bytes_sent": 104857600},
} if {
	input.principal.deployment.type == "production"
	lib.target_in(input.target, {"api.partner.example", "api.partner.example:8443"})
}

# Any build may test against the partner's sandbox.
allow contains {"rule": "partner-sandbox"} if {
	lib.target_in(input.target, {"sandbox.partner.example"})
}
