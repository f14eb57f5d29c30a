package clientmatrix

// aptGet runs apt with directories of its own: the machine's lists stay as they are.
const aptGet = `mkdir -p apt/lists/partial apt/archives/partial out
: >apt/status
apt() { apt-get -qq -o Dir::State="$WORK/apt" -o Dir::State::Lists="$WORK/apt/lists" -o Dir::State::status="$WORK/apt/status" -o Dir::Cache="$WORK/apt" \
  -o Dir::Etc::SourceList="$WORK/apt/sources.list" -o Dir::Etc::SourceParts=/nonexistent -o Acquire::https::CAInfo="$CA" -o Acquire::Languages=none \
  -o Acquire::https::Proxy::CaInfo="$CA" -o APT::Architecture=amd64 -o Debug::NoLocking=1 "$@"; }
rm -rf apt/lists/*Release apt/lists/*Packages out/*; chmod -R a+rwX .
`

const aptDownload = `apt update
cd out; apt download left-wall; ls`

// packageClients are package managers of systems and languages, and image tools.
var packageClients = []*Client{
	{
		Name: "go command", Short: true, Needs: []string{"go"}, Source: "Go",
		Version: "go version",
		Trust:   `export SSL_CERT_FILE="$CA"`,
		Transfer: `rm -rf mod
GOPROXY="$URL/goproxy" GOSUMDB=off GOTOOLCHAIN=local GOFLAGS=-modcacherw GOMODCACHE="$WORK/mod" GOENV=off go mod download -json left.example/wall@v1.0.0`,
		Want: "left.example/wall@v1.0.0",
		How:  map[Way]string{TLS: "authority of the proxy: `SSL_CERT_FILE=FILE`"},
	},
	{
		Name: "cargo", Slow: true, Needs: []string{"cargo"}, Source: "rustup",
		Version: "cargo --version",
		Trust:   `export CARGO_HTTP_CAINFO="$CA" CARGO_HTTP_PROXY_CAINFO="$CA" CARGO_HOME="$WORK/cargo"`,
		Files:   map[string]string{"Cargo.toml": "[package]\nname = \"app\"\nversion = \"1.0.0\"\nedition = \"2021\"\n[dependencies]\nleftwall = { version = \"1.0.0\", registry = \"left\" }\n", "src/lib.rs": ""},
		Transfer: `rm -rf cargo/registry Cargo.lock
CARGO_REGISTRIES_LEFT_INDEX="sparse+$URL/cargo/" cargo fetch; grep checksum Cargo.lock`,
		Want: "checksum",
		How:  map[Way]string{TLS: "authority of the proxy: `CARGO_HTTP_PROXY_CAINFO=FILE`"},
	},
	{
		Name: "apt, `https://` mirror", Slow: true, Needs: []string{"apt-get"}, Source: "Debian",
		Version:  "apt-get --version",
		Transfer: aptGet + `echo "deb [trusted=yes] $URL/debian stable main" >apt/sources.list` + "\n" + aptDownload,
		Want:     "left-wall_1.0_all.deb",
	},
	{
		Name: "apt, `http://` mirror", Slow: true, Needs: []string{"apt-get"}, Source: "Debian", Scheme: "http",
		Version:  "apt-get --version",
		Transfer: aptGet + `echo "deb [trusted=yes] $URL/debian stable main" >apt/sources.list` + "\n" + aptDownload,
		Want:     "left-wall_1.0_all.deb",
	},
	{
		Name: "apt, flat `http://` mirror", Slow: true, Needs: []string{"apt-get"}, Source: "Debian", Scheme: "http",
		Version:  "apt-get --version",
		Transfer: aptGet + `echo "deb [trusted=yes] $URL/flat ./" >apt/sources.list` + "\n" + aptDownload,
		Want:     "left-wall_1.0_all.deb",
	},
	{
		Name: "skopeo", Needs: []string{"skopeo"}, Source: "Debian",
		Version:  "skopeo --version",
		Trust:    `export SSL_CERT_FILE="$CA"`,
		Transfer: `rm -rf image; skopeo copy --insecure-policy "docker://$HOST:$PORT/left/wall:1.0.0" "dir:$WORK/image"; cat image/manifest.json`,
		Want:     "schemaVersion",
		How:      map[Way]string{TLS: "authority of the proxy: `SSL_CERT_FILE=FILE`"},
	},
}
