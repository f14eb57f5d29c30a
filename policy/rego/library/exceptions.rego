package sallyport.lib

# active says whether an exception counts at the decision's time. An exception is
# an object with an owner (somebody to ask), a ticket, an end ("until", RFC 3339 in UTC, such
# as "2026-12-31T00:00:00Z"), and whatever else the rule wants. One without an
# owner, without an end, or past it, does not count; so it ends by itself.
active(exception) if {
	is_string(exception.owner)
	exception.owner != ""

	# Whole seconds in UTC sort as text. Parsing would make one mistyped end an
	# error of every decision that looks at the list.
	before(exception.until)
}

utc(s) if {
	is_string(s)
	regex.match(`^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$`, s)
}

# exceptions_for are the active exceptions of a list that name a repository and a
# target: {"owner": …, "until": …, "ticket": …, "repository": "acme/payments",
# "hosts": ["api.partner.example"]}. Of a rule that uses one, "until" belongs into
# "expires", so that an open tunnel ends with its exception.
exceptions_for(exceptions, repository, target) := {exception |
	some exception in exceptions
	exception.repository == repository
	target_in(target, exception.hosts)

	# Last: what has not looked at the time holds at any time, and is evaluated
	# once when many decisions are evaluated again.
	active(exception)
}
