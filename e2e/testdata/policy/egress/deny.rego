package sallyport.egress

deny contains {"rule": "no-pastebins", "message": "Pastebins are not for pipelines: ask security@acme.example."} if {
	input.target.host == "paste.unlisted.example"
}

# acme/website is still being watched.
report contains {"rule": "website-observed"} if input.principal.repository.full_name == "acme/website"
