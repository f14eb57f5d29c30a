#!/bin/sh
# pipe.sh is the program of the pipe: it runs one command of sallyport-step in the pipe's
# container. The variables are those of pipe.yml.
set -eu

fail() {
	echo "sallyport pipe: $1" >&2
	exit 2
}

# list NAME FLAG prints FLAG=VALUE for each element of a list variable, which Bitbucket
# passes as NAME_COUNT, NAME_0, NAME_1, …, one per line. A single value is NAME itself.
list() {
	eval "count=\${${1}_COUNT:-}"
	if [ -z "$count" ]; then
		eval "value=\${$1:-}"
		[ -z "$value" ] || element "$2" "$value"
		return 0
	fi
	case $count in
	*[!0-9]*) fail "${1}_COUNT is not a number" ;;
	esac
	[ "$count" -le 32 ] || fail "$1 has $count elements: give at most 32"
	n=0
	while [ "$n" -lt "$count" ]; do
		eval "value=\${${1}_$n:-}"
		element "$2" "$value"
		n=$((n + 1))
	done
}

element() {
	case $2 in
	'' | *[!A-Za-z0-9.:_/\[\]-]*) fail "a value for $1 is empty or has characters that no address has" ;;
	esac
	printf '%s=%s\n' "$1" "$2"
}

# flag NAME reports whether a boolean variable is true.
flag() {
	eval "value=\${$1:-false}"
	case $value in
	true) return 0 ;;
	false) return 1 ;;
	*) fail "$1 is \"$value\": set it to true or false" ;;
	esac
}

[ -n "${PROXY:-}${PROXY_COUNT:-}" ] || fail "PROXY is not set: set it to https://HOST:PORT"
[ -n "${BITBUCKET_STEP_OIDC_TOKEN:-}" ] || fail "the step has no OIDC token: add oidc with the proxy's audience to the step"

# set -e does not end the pipe inside of a here document: the lists are made first.
common=$(list PROXY --proxy)
if [ -n "${CA_FILE:-}" ]; then
	[ -r "$CA_FILE" ] || fail "CA_FILE $CA_FILE cannot be read: give a path below BITBUCKET_CLONE_DIR"
fi

action=${ACTION:-install}
options=
case $action in
install)
	# The clone is the only directory that the pipe shares with the step's script.
	directory=${BITBUCKET_CLONE_DIR:?the pipe needs the clone directory}/.sallyport
	mkdir -p "$directory"
	cp "$(command -v sallyport-step)" "$directory/sallyport-step.new"
	chmod 0755 "$directory/sallyport-step.new"
	mv "$directory/sallyport-step.new" "$directory/sallyport-step"
	printf '*\n' >"$directory/.gitignore"
	echo "sallyport-step is in .sallyport. The next line of the script:"
	echo "  eval \"\$(.sallyport/sallyport-step start $(echo "$common" | tr '\n' ' ')|| echo false)\""
	exit 0
	;;
doctor)
	options=$(list TO --to)
	;;
report)
	if flag CODE_INSIGHTS; then
		# localhost is this container: Bitbucket's proxy is the step's.
		options='--code-insights
--bitbucket-proxy=host.docker.internal:29418'
	fi
	;;
check-network)
	for kind in TCP UDP DNS IPV6 METADATA; do
		more=$(list "$kind" "--$(echo "$kind" | tr '[:upper:]' '[:lower:]')")
		[ -z "$more" ] || options="$options
$more"
	done
	;;
*)
	fail "ACTION is \"$action\": set it to install, doctor, report or check-network"
	;;
esac

set --
while IFS= read -r option; do
	[ -z "$option" ] || set -- "$@" "$option"
done <<END
$common
$options
END
[ -z "${CA_FILE:-}" ] || set -- "$@" "--ca-file=$CA_FILE"
exec sallyport-step "$action" "$@"
