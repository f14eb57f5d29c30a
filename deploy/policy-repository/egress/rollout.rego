# How far the roll-out is: who is only watched, and who writes rules of its own.
package sallyport.egress

# Repositories in report mode: what would be denied passes for now, and is recorded
# with would_deny. Take a repository off data/rollout/repositories.yaml when its
# list of would-be denials is empty or agreed on. To begin with everything in
# report mode, write the rule without a body.
report contains {"rule": "observed", "message": "this repository is only observed for now"} if {
	input.principal.repository.full_name in data.rollout.observed
}

# Repositories whose own folder, repositories/<workspace>/<repository>/, may allow
# something. Their denies count in any case. Give the folder's review to those who
# answer for the repository.
delegate contains {"rule": "own-rules"} if {
	input.principal.repository.full_name in data.rollout.delegated
}
