package clientmatrix

// chromium loads a page without a window. The certificate of the target is not its
// subject, so any is accepted. Its requests for its own services are denied.
const chromium = `chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --disable-extensions --disable-background-networking \
  --ignore-certificate-errors --user-data-dir="$WORK/profile" --proxy-server="$PROXY_HOST:$PROXY_PORT" --dump-dom "$URL/page" 2>"$WORK/errors" >"$WORK/page" || { cat "$WORK/errors" >&2; exit 1; }
if grep -q "` + Greeting + `" "$WORK/page"; then cat "$WORK/page"; else grep -o 'ERR_[A-Z_]*' "$WORK/page" | head -1 >&2; exit 1; fi`

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
