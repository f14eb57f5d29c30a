# What every repository of the organization may reach: the places that builds
# download from. Keep this list short; what one repository needs stands in its
# own folder.
package sallyport.egress

import data.sallyport.lib

# The lists are in data/shared/hosts.yaml, so that adding a mirror is a change of
# data and not of rules.
allow contains {"rule": "shared-registries", "message": "open to every build"} if {
	input.target.port == 443
	lib.host_in(input.target.host, data.shared.registries)
}

# An exception has an owner, a ticket and an end, and stops working by itself:
# data/exceptions/list.yaml. The end is carried over to the decision, so that no
# tunnel outlives it.
allow contains {"rule": "exception", "message": exception.ticket, "expires": exception.until} if {
	some exception in lib.exceptions_for(
		data.exceptions.list,
		input.principal.repository.full_name,
		input.target,
	)
}
