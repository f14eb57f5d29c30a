package doctor

import (
	"errors"
	"net/http"
	"net/netip"
	"time"
)

// fault is one mistake, and the check that has to find it.
type fault struct {
	change                 func(*world)
	check, outcome, detail string
}

// both sets both spellings of a variable.
func both(w *world, upper, lower, value string) { w.env[upper], w.env[lower] = value, value }

var faults = map[string]fault{
	"no proxy":          {func(w *world) { w.config.Proxies = []string{} }, "proxy", Failed, "no proxy is configured"},
	"token in --proxy":  {func(w *world) { w.config.Proxies = []string{"https://step:secret@127.0.0.1:PORT"} }, "proxy", Failed, "user information"},
	"plain proxy":       {func(w *world) { w.config.Proxies = []string{"http://127.0.0.1:PORT"} }, "proxy", Failed, "without encryption"},
	"unknown name":      {func(w *world) { w.config.Proxies = []string{"https://egress.invalid:3129"} }, "proxy name", Failed, "does not resolve"},
	"closed port":       {func(w *world) { w.config.Proxies = []string{"https://127.0.0.1:9"} }, "proxy connection", Failed, "127.0.0.1:9"},
	"wrong name":        {func(w *world) { w.config.Proxies = []string{"https://localhost:PORT"} }, "proxy TLS", Failed, "the certificate is for example.com"},
	"unknown authority": {func(w *world) { w.config.CAFile = "/etc/ssl/certs/ca-certificates.crt" }, "proxy TLS", Failed, ""},
	"no authority file": {func(w *world) { w.config.CAFile = "/nonexistent" }, "proxy TLS", Failed, "no such file"},

	"no token":         {func(w *world) { w.config.Token = source{err: errors.New("the variable is not set")} }, "token", Failed, "the variable is not set"},
	"not a JWT":        {func(w *world) { w.config.Token = source{text: "Zm9vYmFyYmF6cXV4"} }, "token shape", Failed, "not a JWT"},
	"HS256":            {func(w *world) { w.algorithm = "HS256" }, "token shape", Failed, "HS256"},
	"no issuer":        {func(w *world) { delete(w.claims, "iss") }, "token issuer", Failed, "no issuer"},
	"foreign issuer":   {func(w *world) { w.claims["iss"] = "https://token.actions.githubusercontent.com" }, "token issuer", Warning, "not an issuer of Bitbucket"},
	"no audience":      {func(w *world) { delete(w.claims, "aud") }, "token audience", Failed, "no audience"},
	"default audience": {func(w *world) { w.claims["aud"] = []string{defaultAudience + "922e118c"} }, "token audience", Warning, "default audience"},
	"expired":          {func(w *world) { w.claims["exp"] = time.Now().Add(-time.Hour).Unix() }, "token expiry", Failed, "expired at"},
	"expires soon":     {func(w *world) { w.claims["exp"] = time.Now().Add(time.Minute).Unix() }, "token expiry", Warning, "expires in"},
	"no expiry":        {func(w *world) { w.claims["exp"] = -1e300 }, "token expiry", Failed, "no valid expiry"},
	"issued later":     {func(w *world) { w.claims["iat"] = time.Now().Add(time.Hour).Unix() }, "token expiry", Warning, "in the future"},
	"of another step":  {func(w *world) { w.claims["stepUuid"] = "{00000000-0000-4000-8000-000000000000}" }, "token step", Failed, "BITBUCKET_STEP_UUID"},
	"of another deploy": {func(w *world) {
		w.env["BITBUCKET_DEPLOYMENT_ENVIRONMENT_UUID"] = "{bd715740-c970-486b-b68a-b421ec2a1f8b}"
	}, "token deployment", Failed, "the step deploys to"},

	"wrong audience at the server": {func(w *world) { w.answer = refuse("credential_audience") }, "token audience", Failed, "the server does not accept it: credential_audience"},
	"refused by the server":        {func(w *world) { w.answer = refuse("credential_audience") }, "server", Failed, "status 401, credential_audience"},
	"unavailable log":              {func(w *world) { w.answer = refuse("audit_unavailable") }, "server", Failed, "audit_unavailable"},
	"another server":               {func(w *world) { w.answer = http.NotFound }, "server", Failed, "not Sallyport"},
	"not JSON": {func(w *world) {
		w.answer = func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write([]byte("<html>")) }
	}, "server", Failed, "not JSON"},
	"denied target": {func(w *world) { w.config.Targets = []string{"evil.example:443"} }, "target", Failed, "evil.example:443 is denied: no_rule_matched; decision 01a1fdf4"},

	"no forwarder": {func(w *world) { w.config.Forwarder = netip.AddrPort{} }, "forwarder", Warning, "no forwarder"},
	"other user": {func(w *world) {
		for range 2 { // as text and as JSON
			w.refusal <- "HTTP/1.1 403 Sallyport peer_not_admitted\r\nConnection: close\r\n\r\n"
		}
	}, "forwarder", Failed, "does not admit this user"},
	"missing lower case": {func(w *world) { delete(w.env, "https_proxy") }, "variables", Failed, "https_proxy is not set"},
	"missing upper case": {func(w *world) { delete(w.env, "HTTP_PROXY") }, "variables", Failed, "HTTP_PROXY is not set"},
	"different":          {func(w *world) { w.env["https_proxy"] = "http://127.0.0.1:1" }, "variables", Failed, "HTTPS_PROXY and https_proxy differ"},
	"none":               {func(w *world) { delete(w.env, "https_proxy"); delete(w.env, "HTTPS_PROXY") }, "variables", Failed, "tools connect directly"},
	"wrong scheme":       {func(w *world) { both(w, "HTTPS_PROXY", "https_proxy", "https://127.0.0.1:3128") }, "variables", Failed, "wrong scheme"},
	"no scheme":          {func(w *world) { both(w, "HTTPS_PROXY", "https_proxy", "127.0.0.1:3128") }, "variables", Failed, "no scheme"},
	"SOCKS":              {func(w *world) { both(w, "HTTPS_PROXY", "https_proxy", "socks4://127.0.0.1:3128") }, "variables", Failed, "socks4"},
	"another forwarder":  {func(w *world) { both(w, "HTTP_PROXY", "http_proxy", "http://127.0.0.1:1") }, "variables", Failed, "HTTP_PROXY names 127.0.0.1:1"},
	"token in a URL":     {func(w *world) { both(w, "HTTPS_PROXY", "https_proxy", "https://step:TOKEN@egress.acme.example:3129") }, "variables", Warning, "HTTPS_PROXY contains a credential"},
	"copy of the token":  {func(w *world) { w.env["MY_TOKEN"] = "TOKEN" }, "variables", Warning, "MY_TOKEN contains the token"},
	"all bypass":         {func(w *world) { both(w, "NO_PROXY", "no_proxy", "*") }, "variables", Failed, "every request bypasses"},
	"whole network":      {func(w *world) { both(w, "NO_PROXY", "no_proxy", "localhost,127.0.0.1,host.docker.internal,0.0.0.0/0") }, "variables", Failed, "every request bypasses"},
	"network":            {func(w *world) { both(w, "NO_PROXY", "no_proxy", "localhost,127.0.0.1,host.docker.internal,10.0.0.0/8") }, "variables", Warning, "the network 10.0.0.0/8"},
	"too wide":           {func(w *world) { both(w, "NO_PROXY", "no_proxy", "localhost,127.0.0.1,host.docker.internal,.com") }, "variables", Failed, `contains ".com"`},
	"star": {func(w *world) {
		both(w, "NO_PROXY", "no_proxy", "localhost,127.0.0.1,host.docker.internal,*.acme.example")
	}, "variables", Warning, "*.acme.example"},
	"target exempted": {func(w *world) {
		both(w, "NO_PROXY", "no_proxy", "localhost,127.0.0.1,host.docker.internal,.partner.example")
	}, "variables", Failed, "requests to api.partner.example bypass"},
	"own hosts":        {func(w *world) { both(w, "NO_PROXY", "no_proxy", "localhost,127.0.0.1") }, "variables", Warning, "host.docker.internal"},
	"not as start set": {func(w *world) { w.env["NODE_USE_ENV_PROXY"] = "0" }, "variables", Failed, "NODE_USE_ENV_PROXY has another value"},
	"removed since":    {func(w *world) { delete(w.env, "NODE_USE_ENV_PROXY") }, "variables", Failed, "NODE_USE_ENV_PROXY is not set"},
	"CGI":              {func(w *world) { w.env["REQUEST_METHOD"] = "GET" }, "variables", Warning, "REQUEST_METHOD"},

	"token in a file":   {func(w *world) { w.files[".npmrc"] = "//registry/:_authToken=TOKEN\n" }, "files", Failed, "~/.npmrc contains the token"},
	"proxy in a file":   {func(w *world) { w.files[".gitconfig"] = "[http]\n\tproxy = https://step:secret@egress.example:3129\n" }, "files", Warning, "~/.gitconfig contains the URL"},
	"Bitbucket refuses": {func(w *world) { w.bitbucket = http.StatusUnauthorized }, "Bitbucket's proxy", Warning, "status 401"},
}
