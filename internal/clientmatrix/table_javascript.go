package clientmatrix

const fetchProgram = `import fs from "node:fs";
async function transfer() {
  const response = await fetch(process.env.URL + "/page");
  const text = await response.text();
  if (!response.ok) throw new Error("status " + response.status + ": " + text);
  console.log(text);
}
try {
  if (process.argv[2] === "session") {
    await transfer();
    fs.writeFileSync(process.env.EVENTS, "first\n");
    fs.readSync(fs.openSync(process.env.CONTINUE, "r"), Buffer.alloc(8));
  }
  await transfer();
} catch (e) {
  console.error(String(e), e.cause ? String(e.cause) : "");
  process.exit(1);
}
`

const axiosProgram = `const axios = require("axios");
axios.get(process.env.URL + "/page", { timeout: 60000 }).then(
  (response) => console.log(response.data),
  (e) => { console.error(String(e), e.response ? e.response.status + " " + e.response.statusText : ""); process.exit(1); });
`

const manifest = `{"name":"app","version":"1.0.0","private":true}`

// javascriptClients are Node.js, other engines, and installers of npm packages.
var javascriptClients = []*Client{
	{
		Name: "Node.js 20 fetch", Short: true, Needs: []string{"node20"}, Source: "Debian or npm",
		Version:  "node20 --version",
		Trust:    `export NODE_EXTRA_CA_CERTS="$CA"`,
		Files:    map[string]string{"fetch.mjs": fetchProgram},
		Transfer: `node20 "$WORK/fetch.mjs"`,
		Session:  `node20 "$WORK/fetch.mjs" session`,
		Except: map[Way]string{
			Step: "fetch of Node.js before 22.21 and 24.0 ignores the variables and bypasses the proxy", TLS: "ignores the variables", Plain: "ignores the variables",
		},
	},
	nodeFetch("Node.js 22 fetch", "node22"),
	nodeFetch("Node.js 24 fetch", "node24"),
	{
		Name: "axios", Needs: []string{"node20", "axios"}, Source: "npm",
		Version:  `node20 -p '"axios " + require("axios/package.json").version'`,
		Trust:    `export NODE_EXTRA_CA_CERTS="$CA"`,
		Files:    map[string]string{"get.cjs": axiosProgram},
		Transfer: `node20 "$WORK/get.cjs"`,
		How:      map[Way]string{TLS: "authority of the proxy: `NODE_EXTRA_CA_CERTS=FILE`"},
	},
	{
		Name: "Deno fetch", Needs: []string{"deno"}, Source: "npm",
		Version:  "deno --version",
		Trust:    `export DENO_CERT="$CA" DENO_NO_UPDATE_CHECK=1`,
		Files:    map[string]string{"fetch.mjs": "console.log(await (await fetch(Deno.env.get('URL') + '/page')).text());\n"},
		Transfer: `deno run --quiet --allow-all "$WORK/fetch.mjs"`,
		How:      map[Way]string{TLS: "authority of the proxy: `DENO_CERT=FILE`"},
	},
	{
		Name: "npm", Short: true, Needs: []string{"npm"}, Source: "Debian or npm",
		Version: "npm --version",
		Trust:   `export npm_config_cafile="$CA" npm_config_update_notifier=false`,
		Files:   map[string]string{"package.json": manifest},
		Transfer: `rm -rf node_modules package-lock.json "$WORK/cache"
npm install --no-audit --no-fund --ignore-scripts --cache "$WORK/cache" --registry "$URL/npm/" left-wall; cat node_modules/left-wall/package.json`,
		Want: "left-wall",
		How:  map[Way]string{TLS: "authority of the proxy: `npm_config_cafile=FILE`"},
	},
	{
		Name: "yarn 1", Needs: []string{"yarn1"}, Source: "npm",
		Version: "yarn1 --version",
		Files:   map[string]string{"package.json": manifest},
		Transfer: `rm -rf node_modules yarn.lock "$WORK/cache"
printf 'registry "%s"\ncafile "%s"\n' "$URL/npm" "$CA" >.yarnrc
yarn1 add --ignore-scripts --no-progress --cache-folder "$WORK/cache" left-wall; cat node_modules/left-wall/package.json`,
		Want: "left-wall",
	},
	{
		Name: "yarn 4", Needs: []string{"yarn4"}, Source: "npm",
		Version: "yarn4 --version",
		Files:   map[string]string{"package.json": manifest},
		Settings: map[Way]string{
			TLS: `export YARN_HTTPS_PROXY="$PROXY" YARN_HTTP_PROXY="$PROXY"`, Plain: `export YARN_HTTPS_PROXY="$PROXY" YARN_HTTP_PROXY="$PROXY"`,
		},
		Transfer: `rm -rf .yarn yarn.lock node_modules "$HOME/.yarn"
printf 'npmRegistryServer: "%s"\nhttpsCaFilePath: "%s"\nenableTelemetry: false\nenableGlobalCache: false\nnpmMinimalAgeGate: 0\nnodeLinker: node-modules\n' "$URL/npm" "$CA" >.yarnrc.yml
: >yarn.lock
yarn4 add left-wall; cat node_modules/left-wall/package.json`,
		Want:  "left-wall",
		Given: map[Way][]string{TLS: {"YARN_HTTPS_PROXY", "YARN_HTTP_PROXY"}, Plain: {"YARN_HTTPS_PROXY", "YARN_HTTP_PROXY"}},
		How:   map[Way]string{TLS: "`YARN_HTTPS_PROXY`", Plain: "`YARN_HTTPS_PROXY`"},
	},
	{
		Name: "pnpm", Needs: []string{"pnpm"}, Source: "npm",
		Version: "pnpm --version",
		Trust:   `export npm_config_cafile="$CA" npm_config_update_notifier=false`,
		Files:   map[string]string{"package.json": manifest},
		Transfer: `rm -rf node_modules pnpm-lock.yaml "$WORK/store"
printf 'registry=%s\ncafile=%s\n' "$URL/npm/" "$CA" >.npmrc
pnpm add --ignore-scripts --store-dir "$WORK/store" left-wall; cat node_modules/left-wall/package.json`,
		Want: "left-wall",
		How:  map[Way]string{TLS: "authority of the proxy: `npm_config_cafile=FILE`"},
	},
	{
		Name: "bun", Needs: []string{"bun"}, Source: "npm",
		Version: "bun --version",
		Trust:   `export NODE_EXTRA_CA_CERTS="$CA"`,
		Files:   map[string]string{"package.json": manifest},
		Transfer: `rm -rf node_modules bun.lock "$WORK/cache"
printf '[install]\nregistry = "%s"\ncafile = "%s"\n[install.cache]\ndir = "%s"\n' "$URL/npm/" "$CA" "$WORK/cache" >bunfig.toml
bun add --ignore-scripts left-wall; cat node_modules/left-wall/package.json`,
		Want: "left-wall",
		How:  map[Way]string{TLS: "authority of the proxy: `cafile` in `bunfig.toml`"},
	},
}

// nodeFetch is the fetch of a Node.js that reads the variables when it is asked to.
func nodeFetch(name, program string) *Client {
	return &Client{
		Name: name, Needs: []string{program}, Source: "npm",
		Version:  program + " --version",
		Trust:    `export NODE_EXTRA_CA_CERTS="$CA"`,
		Files:    map[string]string{"fetch.mjs": fetchProgram},
		Settings: map[Way]string{TLS: "export NODE_USE_ENV_PROXY=1", Plain: "export NODE_USE_ENV_PROXY=1"},
		Transfer: program + ` "$WORK/fetch.mjs"`,
		Session:  program + ` "$WORK/fetch.mjs" session`,
		How:      map[Way]string{TLS: "`NODE_USE_ENV_PROXY=1`; authority of the proxy: `NODE_EXTRA_CA_CERTS=FILE`", Plain: "`NODE_USE_ENV_PROXY=1`"},
	}
}
