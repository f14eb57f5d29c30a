package sallyport.lib

# active(exception) is true if an exception applies at the decision's time. An exception is
# an object with an owner (a contact), a ticket, an end ("until", RFC 3339 in UTC, such as
# "2026-12-31T00:00:00Z"), and other keys that the rule reads. An exception without an
# owner, without an end, or past its end does not apply.
active(exception) if {
	is_string(exception.owner)
	exception.owner != ""

	# Whole seconds in UTC sort as text. If they were parsed, one mistyped end would
	# be an error of every decision that reads the list.
	before(exception.until)
}

utc(s) if {
	is_string(s)
	regex.match(`^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$`, s)
}

# exceptions_for(exceptions, repository, target) is the set of active exceptions that name
# the repository and the target: {"owner": …, "until": …, "ticket": …, "repository":
# "acme/payments", "hosts": ["api.partner.example"]}. A rule that uses an exception sets
# its own "expires" to the exception's "until": an open tunnel then ends with the exception.
exceptions_for(exceptions, repository, target) := {exception |
	some exception in exceptions
	exception.repository == repository
	target_in(target, exception.hosts)

	# Last: a result that does not depend on the time is evaluated once if many
	# decisions are replayed.
	active(exception)
}
