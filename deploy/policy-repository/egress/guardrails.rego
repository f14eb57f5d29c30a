# What nobody may reach, whatever else is allowed. A deny of the organization
# beats every allow. Those with "enforce_in_report_mode" hold in report mode too; use it for
# what must not happen once, not even while you are only watching.
package sallyport.egress

import data.sallyport.lib

deny contains {
	"rule": "no-paste-sites",
	"message": "paste sites are closed to builds: share files through the artifact store",
	"enforce_in_report_mode": true,
} if {
	lib.host_in(input.target.host, data.guardrails.paste_sites)
}

# The addresses at which clouds hand out credentials. Sallyport refuses them by
# address already; this says so by name, and says why.
deny contains {
	"rule": "no-metadata",
	"message": "a build has no business with the cloud's metadata service",
	"enforce_in_report_mode": true,
} if {
	lib.host_in(input.target.host, data.guardrails.metadata)
}

# Production systems are for production deployments. Without this rule no allow
# would match a branch build either; with it the developer reads why. A deployment
# that is absent is asked for with "not": reading a field of it would make the
# rule silent for exactly the builds that it is meant for.
deny contains {
	"rule": "partner-from-production-only",
	"message": "the partner's API is open to production deployments only: give the step a deployment, or use sandbox.partner.example",
} if {
	lib.host_in(input.target.host, data.guardrails.production_only)
	not production
}

production if input.principal.deployment.type == "production"
