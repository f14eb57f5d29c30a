# sallyport.sh configures a build step to use Sallyport. Source it in the first line of the
# script, and again in the first line of after-script:
#
#   SALLYPORT_PROXY=https://egress.acme.example:3129
#   SALLYPORT_SHA256_AMD64=…   SALLYPORT_SHA256_ARM64=…
#   . ./sallyport.sh
#
# With a checksum for the machine, it fetches sallyport-step from the proxy, compares the
# checksum and starts the forwarder. Without one, it only sets variables: see
# sallyport_plain for the tools that then do not work. If anything fails, the variables name
# a closed port, so that no tool connects directly, and the status is 1.
#
# POSIX sh. It needs curl or wget, and sha256sum, to fetch the program. The token is in no
# argument, file or message.

sallyport_main() {
	if [ -z "${SALLYPORT_PROXY:-}" ]; then
		sallyport_fail "SALLYPORT_PROXY is not set: set it to https://HOST:PORT"
		return 1
	fi
	case $SALLYPORT_PROXY in
	*@* | *[[:space:]]*)
		sallyport_fail "SALLYPORT_PROXY has user information or spaces: set it to https://HOST:PORT"
		return 1
		;;
	https://*) ;;
	*)
		sallyport_fail "SALLYPORT_PROXY does not begin with https://: set it to https://HOST:PORT"
		return 1
		;;
	esac
	if [ -z "${BITBUCKET_STEP_OIDC_TOKEN:-}" ]; then
		sallyport_fail "BITBUCKET_STEP_OIDC_TOKEN is not set: add oidc with the proxy's audience to the step"
		return 1
	fi
	case $(uname -s)-$(uname -m) in
	Linux-x86_64 | Linux-amd64)
		sallyport_arch=amd64
		sallyport_sum=${SALLYPORT_SHA256_AMD64:-}
		;;
	Linux-aarch64 | Linux-arm64)
		sallyport_arch=arm64
		sallyport_sum=${SALLYPORT_SHA256_ARM64:-}
		;;
	*)
		sallyport_sum=
		;;
	esac
	if [ -z "$sallyport_sum" ]; then
		sallyport_plain
		return 0
	fi
	sallyport_start
}

# sallyport_start fetches the program, compares its checksum and starts the forwarder.
sallyport_start() {
	sallyport_dir=$(mktemp -d "${TMPDIR:-/tmp}/sallyport.XXXXXX") || {
		sallyport_fail "no directory can be made in ${TMPDIR:-/tmp}"
		return 1
	}
	sallyport_bin=$sallyport_dir/sallyport-step
	if ! sallyport_fetch "${SALLYPORT_PROXY%/}/sallyport-step/linux-$sallyport_arch" "$sallyport_bin"; then
		rm -rf "$sallyport_dir"
		sallyport_fail "sallyport-step cannot be fetched from $SALLYPORT_PROXY"
		return 1
	fi
	sallyport_got=$(sha256sum <"$sallyport_bin") || sallyport_got=
	if [ "${sallyport_got%% *}" != "$sallyport_sum" ]; then
		rm -rf "$sallyport_dir"
		sallyport_fail "sallyport-step from $SALLYPORT_PROXY has the checksum ${sallyport_got%% *}, not $sallyport_sum: it was not started"
		return 1
	fi
	chmod 0700 "$sallyport_bin"
	PATH=$sallyport_dir:$PATH
	export PATH
	# On failure, start prints a script that names a closed port and ends with false.
	sallyport_script=$(sallyport-step start --proxy "$SALLYPORT_PROXY") || :
	eval "${sallyport_script:-sallyport_fail 'sallyport-step start printed nothing'; false}"
}

# sallyport_fetch writes a URL to a file, without a proxy.
sallyport_fetch() {
	if command -v curl >/dev/null 2>&1; then
		curl -fsS --noproxy '*' --proto '=https' --retry 3 --max-time 120 -o "$2" "$1"
	elif command -v wget >/dev/null 2>&1; then
		(
			unset https_proxy HTTPS_PROXY
			wget -q -T 60 -O "$2" "$1"
		)
	else
		echo "sallyport: neither curl nor wget is installed" >&2
		return 1
	fi
}

# sallyport_plain sets the variables, with the token in the URL. Java, Maven, Gradle, wget,
# yarn, Python's urllib and aiohttp, Ruby, Perl and gRPC do not work with an https:// proxy
# or go around it, apt with https:// mirrors sends the token to the mirror, and curl -v
# prints it.
sallyport_plain() {
	echo "sallyport: no checksum for this machine: only variables are set; Java, wget, yarn, Ruby and gRPC do not work, and tools can print the token" >&2
	HTTPS_PROXY="https://step:$BITBUCKET_STEP_OIDC_TOKEN@${SALLYPORT_PROXY#https://}"
	HTTPS_PROXY=${HTTPS_PROXY%/}
	sallyport_variables "$HTTPS_PROXY"
	export GIT_HTTP_PROXY_AUTHMETHOD=basic
}

# sallyport_variables sets the variables to a proxy. NO_PROXY keeps its entries.
sallyport_variables() {
	HTTPS_PROXY=$1 https_proxy=$1 HTTP_PROXY=$1 http_proxy=$1
	NO_PROXY="${NO_PROXY:+$NO_PROXY,}localhost,127.0.0.1,host.docker.internal"
	no_proxy=$NO_PROXY
	export HTTPS_PROXY https_proxy HTTP_PROXY http_proxy NO_PROXY no_proxy
}

# sallyport_fail reports a cause, and lets every tool fail instead of connecting directly.
sallyport_fail() {
	echo "sallyport: $1" >&2
	sallyport_variables http://127.0.0.1:9
}

sallyport_main
