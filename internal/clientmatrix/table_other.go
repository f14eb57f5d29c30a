package clientmatrix

// chromium loads a page without a window. The certificate of the target is not its
// subject, so any is accepted. Its requests for its own services are denied.
const chromium = `chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --disable-extensions --disable-background-networking \
  --ignore-certificate-errors --user-data-dir="$WORK/profile" --proxy-server="$PROXY_HOST:$PROXY_PORT" --dump-dom "$URL/page" 2>"$WORK/errors" >"$WORK/page" || { cat "$WORK/errors" >&2; exit 1; }
if grep -q "` + Greeting + `" "$WORK/page"; then cat "$WORK/page"; else grep -o 'ERR_[A-Z_]*' "$WORK/page" | head -1 >&2; exit 1; fi`

// firefox loads a page without a window, and reads it by the Marionette protocol: a message
// is its length, a colon and JSON. Any certificate of the target is accepted.
const firefox = `import json, os, shutil, socket, subprocess, sys, time
work, port = os.environ["WORK"], int(os.environ["LOCAL_PORT"])
profile = work + "/firefox"
shutil.rmtree(profile, ignore_errors=True)
os.mkdir(profile)
prefs = {"marionette.port": port, "network.proxy.type": 1, "network.proxy.ssl": os.environ["PROXY_HOST"], "network.proxy.ssl_port": int(os.environ["PROXY_PORT"]),
         "network.captive-portal-service.enabled": False, "network.connectivity-service.enabled": False, "app.update.disabledForTesting": True,
         "browser.safebrowsing.update.enabled": False, "datareporting.policy.dataSubmissionEnabled": False, "toolkit.telemetry.server": "", "services.settings.server": "data:,"}
if os.environ.get("GREASE") == "0":
    prefs["security.tls.ech.grease_probability"] = 0
with open(profile + "/user.js", "w") as f:
    f.writelines("user_pref(%s, %s);\n" % (json.dumps(k), json.dumps(v)) for k, v in prefs.items())
os.environ["MOZ_REMOTE_SETTINGS_DEVTOOLS"] = "1"  # else services.settings.server is ignored
browser = subprocess.Popen(["firefox-esr", "--headless", "--no-remote", "--marionette", "--profile", profile], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
def receive(c):
    length = b""
    while (b := c.recv(1)) != b":":
        length += b
    text = b""
    while len(text) < int(length):
        text += c.recv(int(length) - len(text))
    return json.loads(text)
def call(c, n, name, params):
    message = json.dumps([0, n, name, params]).encode()
    c.sendall(str(len(message)).encode() + b":" + message)
    _, _, error, result = receive(c)
    if error:
        raise SystemExit(error["message"].split("&")[0])
    return result
try:
    for attempt in range(240):
        try:
            c = socket.create_connection(("127.0.0.1", port), 60)
            break
        except OSError:
            time.sleep(0.25)
    receive(c)
    call(c, 1, "WebDriver:NewSession", {"acceptInsecureCerts": True})
    call(c, 2, "WebDriver:Navigate", {"url": os.environ["URL"] + "/page"})
    print(call(c, 3, "WebDriver:GetPageSource", {})["value"])
finally:
    browser.terminate()
    browser.wait(30)
`

const withoutPolicy = "--without chromium --unset-token"

// otherClients are browsers, and clients of other protocols than HTTP.
var otherClients = []*Client{
	{
		Name: "psql", Needs: []string{"psql"}, Source: "Debian", Zone: Raw, Port: PostgreSQL, Ways: []Way{Step},
		Version:  "psql --version",
		Settings: map[Way]string{Step: `sallyport-step forward "$LOCAL_PORT:$HOST:$PORT"`},
		Transfer: `psql -X -q -A -t "host=127.0.0.1 port=$LOCAL_PORT user=postgres dbname=postgres sslmode=disable connect_timeout=30" -c "SELECT 'left wall'"`,
		Want:     "left wall",
		How:      map[Way]string{Step: "`sallyport-step forward PORT:HOST:PORT`; rule with `protocol: \"any\"`"},
	},
	{
		Name: "kubectl", Slow: true, Needs: []string{"kubectl"}, Source: "Kubernetes",
		Version:  "kubectl version --client",
		Transfer: `kubectl --server "$URL" --certificate-authority "$CA" --token left --request-timeout 30s get --raw /page`,
		How:      map[Way]string{TLS: "the authority of the proxy is that of the cluster"},
	},
	{
		Name: "buildah, `RUN` line", Slow: true, Needs: []string{"buildah", "httpget"}, Source: "Debian",
		Version: "buildah --version",
		Files:   map[string]string{"Dockerfile.in": "FROM scratch\nCOPY ca.pem /etc/ssl/certs/ca-certificates.crt\nCOPY httpget /\nRUN [\"/httpget\", \"URL/page\"]\n"},
		Transfer: `cp "$(command -v httpget)" .; cp "$CA" ca.pem; sed "s|URL|$URL|" Dockerfile.in >Dockerfile
buildah --storage-driver vfs --root "$WORK/images" --runroot "$WORK/images-run" bud --no-cache --isolation chroot .`,
		How: map[Way]string{Step: "`--isolation chroot`"},
	},
	{
		Name: "Firefox", Slow: true, Needs: []string{"firefox-esr", "python3"}, Source: "Debian", Ways: []Way{Step},
		Version: "firefox-esr --version", Files: map[string]string{"firefox.py": firefox}, Transfer: `GREASE=0 /usr/bin/python3 "$WORK/firefox.py"`,
		How: map[Way]string{Step: "`network.proxy.*`; `security.tls.ech.grease_probability` is 0"},
	},
	{
		Name: "Firefox with ECH", Slow: true, Needs: []string{"firefox-esr", "python3"}, Source: "Debian", Ways: []Way{Step}, Mentions: "hello_encrypted", Start: "--without chromium",
		Version: "firefox-esr --version", Files: map[string]string{"firefox.py": firefox}, Transfer: `/usr/bin/python3 "$WORK/firefox.py"`,
		Except: map[Way]string{Step: "Firefox sends the extension `encrypted_client_hello`"},
	},
	{
		Name: "Firefox with ECH, rule with `\"ech\": true`", Slow: true, Needs: []string{"firefox-esr", "python3"}, Source: "Debian", Zone: ECH, Ways: []Way{Step},
		Version: "firefox-esr --version", Files: map[string]string{"firefox.py": firefox}, Transfer: `/usr/bin/python3 "$WORK/firefox.py"`,
		How: map[Way]string{Step: "`network.proxy.*`"},
	},
	{
		Name: "Chromium", Slow: true, Needs: []string{"chromium"}, Source: "Debian", Ways: []Way{Step},
		Version: "chromium --version", Transfer: chromium, AtOnce: 2,
		How: map[Way]string{Step: "as root, a managed policy switches `encrypted_client_hello` off"},
	},
	{
		Name: "Chromium with ECH", Slow: true, Needs: []string{"chromium"}, Source: "Debian", Ways: []Way{Step},
		Version: "chromium --version", Transfer: chromium, AtOnce: 2, Mentions: "hello_encrypted",
		Start:  "--without chromium", // with the token, the report at the end has the close reason
		Except: map[Way]string{Step: "Chromium sends the extension `encrypted_client_hello`"},
	},
	{
		Name: "Chromium with ECH, rule with `\"ech\": true`", Slow: true, Needs: []string{"chromium"}, Source: "Debian", Zone: ECH, Ways: []Way{Step},
		Version: "chromium --version", Transfer: chromium, AtOnce: 2, Start: withoutPolicy,
	},
	{
		Name: "Chromium with ECH, report mode", Slow: true, Needs: []string{"chromium"}, Source: "Debian", Zone: Report, Ways: []Way{Step},
		Version: "chromium --version", Transfer: chromium, AtOnce: 2, Start: withoutPolicy,
	},
}
