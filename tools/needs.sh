#!/bin/sh
# needs.sh PROGRAM...: gets the programs and PostgreSQL where this machine lacks
# them, for `make demo` and `make test`. As root on Debian they are installed;
# anybody else is told what to ask for, but for PostgreSQL, which can be had
# without rights. Without PgBouncer its one test is skipped.
set -eu
cd "$(dirname "$0")/.."

missing=""
for program in "$@"; do
	PATH=$PATH:/usr/sbin command -v "$program" >/dev/null 2>&1 && continue
	case $program in
	pgbouncer) [ "$(id -u)" = 0 ] && missing="$missing pgbouncer" || echo "no PgBouncer: its test is skipped (apt-get install pgbouncer)" ;;
	nft | ip) [ "$(id -u)" = 0 ] && missing="$missing $([ "$program" = nft ] && echo nftables || echo iproute2)" || echo "no $program: the tests of firewall rules are skipped" ;;
	ssh) missing="$missing openssh-client" ;;
	*) missing="$missing $program" ;;
	esac
done
if [ -n "$missing" ]; then
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
		echo "installing$missing"
		apt-get update -qq
		# shellcheck disable=SC2086 # one word a package
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ca-certificates $missing >/dev/null
	else
		echo "needed and not installed:$missing; ask for: apt-get install$missing" >&2
		exit 1
	fi
fi
exec sh internal/pgembed/get-postgresql.sh
