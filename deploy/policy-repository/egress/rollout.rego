# How far the roll-out is: who is only watched, and who writes rules of its own.
package sallyport.egress

# Everything begins in report mode: what would be denied passes for now, and is
# recorded with would_deny. A repository leaves it when its name comes into
# data/rollout/repositories.yaml, once what would be denied is nothing any more, or
# is agreed on. When all are there, take this rule away.
report contains {"rule": "observed", "message": "this repository is only observed for now"} if not enforced

enforced if input.principal.repository.full_name in data.rollout.enforced

# Repositories whose own folder, repositories/<workspace>/<repository>/, may allow
# something. Their denies count in any case. Give the folder's review to those who
# answer for the repository.
delegate contains {"rule": "own-rules"} if {
	input.principal.repository.full_name in data.rollout.delegated
}
