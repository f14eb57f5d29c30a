package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/sallyport/sallyport/internal/uuid"
)

// FuzzParse holds that Parse never panics, that a refusal is a sorted list of one-line errors inside the file, and
// that an accepted configuration keeps the package's rules, and has the same meaning when it is written out.
func FuzzParse(f *testing.F) {
	f.Add([]byte(minimal))
	if example, err := os.ReadFile(exampleFile); err == nil {
		f.Add(example)
	}
	archives, err := filepath.Glob("testdata/bad/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range archives {
		a, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range a.Files {
			if file.Name == "sallyport.yaml" {
				f.Add(file.Data)
			}
		}
	}
	file := filepath.Join(f.TempDir(), "sallyport.yaml")
	writeFile(f, filepath.Join(filepath.Dir(file), "secret"), "x\n")
	if err := os.Mkdir(filepath.Join(filepath.Dir(file), "policy-repository"), 0o700); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := Parse(file, data)
		if err != nil {
			checkRefusal(t, err, data)
			return
		}
		checkRules(t, cfg)
		written := write(cfg)
		again, err := Parse(file, []byte(written))
		if err != nil {
			t.Fatalf("accepted, and refused when written out:\n%v\n%s", err, written)
		}
		if diff := cmp.Diff(cfg, again, cmpopts.IgnoreUnexported(Config{}), cmp.AllowUnexported(Secret{}), cmpopts.EquateComparable(), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("written out it says something else (-first +again):\n%s", diff)
		}
	})
}

func checkRefusal(t *testing.T, err error, data []byte) {
	errs, ok := errors.AsType[Errors](err)
	if !ok || len(errs) == 0 {
		t.Fatalf("not a list of errors: %v", err)
	}
	lines := strings.Count(string(data), "\n") + 1
	for _, e := range errs {
		if e.Message == "" || strings.ContainsAny(e.Error(), "\n\r\x00\x1b") || !utf8.ValidString(e.Error()) {
			t.Errorf("not one line of text: %q", e.Error())
		}
		if e.Line < 0 || e.Line > lines || (e.Line == 0) != (e.Column == 0) {
			t.Errorf("%v: position outside the file's %d lines", e, lines)
		}
	}
	if !slices.IsSortedFunc(errs, before) {
		t.Errorf("not sorted:\n%v", err)
	}
}

// checkRules states again, independently of the decoder, what the rest of the program relies on.
func checkRules(t *testing.T, c *Config) {
	if len(c.Listeners) == 0 || len(c.Identity.Bitbucket) == 0 {
		t.Error("no listener or no workspace")
	}
	for _, l := range c.Listeners {
		if l.TLS == nil && !l.Plaintext && !loopback(l.Address) {
			t.Errorf("plaintext off loopback: %+v", l)
		}
	}
	if !c.Admin.AllowNonLoopback && !loopback(c.Admin.Address) {
		t.Errorf("admin off loopback: %+v", c.Admin)
	}
	for _, b := range c.Identity.Bitbucket {
		if !uuid.IsCanonical(b.WorkspaceUUID) || b.Issuer == "" || len(b.Audiences) == 0 || slices.Contains(b.Audiences, "") {
			t.Errorf("workspace: %+v", b)
		}
	}
	if (c.Policy.Directory == "") != (c.Policy.Git != nil) || c.Audit.OnOutage != OutageDeny && c.Audit.OnOutage != OutageSpool {
		t.Errorf("no one source, or no answer to an outage: %+v %+v", c.Policy, c.Audit)
	}
	if c.Audit.Embedded == !c.Audit.Database.IsZero() || c.Audit.Embedded == !c.Audit.Migration.IsZero() {
		t.Errorf("audit: %+v", c.Audit)
	}
	for _, v := range c.Egress.UpstreamProxies {
		if v.Proxy == nil || v.Proxy.Port() == "" || v.Proxy.User != nil || v.DNS != DNSLocal && v.DNS != DNSUpstream {
			t.Errorf("via: %+v", v)
		}
	}
	for _, p := range slices.Concat(c.Egress.AllowNetworks, c.Egress.DenyNetworks) {
		if p != p.Masked() || p.Addr().Is4In6() {
			t.Errorf("network %v", p)
		}
	}
	for _, d := range []time.Duration{
		c.Identity.NameLookupTimeout, c.Identity.MaxLifetime, c.Identity.JWKSMaxAge, c.Identity.NameCacheMaxAge, c.Policy.EvaluationTimeout, c.Egress.ConnectTimeout, c.Egress.Tunnel.IdleTimeout,
		c.Egress.Tunnel.MaxLifetime, c.Egress.Tunnel.HelloTimeout, c.Limits.ReadHeaderTimeout,
	} {
		if d <= 0 {
			t.Errorf("a limit that bounds nothing: %+v", c)
		}
	}
	if c.Limits.MaxHeaderBytes <= 0 || c.Identity.Leeway < 0 || c.Shutdown.DrainTimeout < 0 {
		t.Errorf("limits: %+v", c)
	}
	if !filepath.IsAbs(c.DataDirectory) || !filepath.IsAbs(c.Policy.Directory) {
		t.Errorf("relative paths: %+v", c)
	}
}

// write is a configuration as YAML; text in single quotes, in which only the quote itself is special.
func write(c *Config) string {
	var b strings.Builder
	q := func(text any) string { return "'" + strings.ReplaceAll(fmt.Sprint(text), "'", "''") + "'" }
	line := func(indent int, key string, value any) {
		fmt.Fprintf(&b, "%s%s: %v\n", strings.Repeat(" ", indent), key, value)
	}
	b.WriteString("listeners:\n")
	for _, l := range c.Listeners {
		line(0, "- address", q(l.Address))
		line(2, "plaintext", l.Plaintext)
		if l.TLS != nil {
			line(2, "tls", "{certificate_file: "+q(l.TLS.CertificateFile)+", key_file: "+q(l.TLS.KeyFile)+"}")
		}
	}
	line(0, "admin", fmt.Sprintf("{address: %s, allow_non_loopback: %v}", q(c.Admin.Address), c.Admin.AllowNonLoopback))
	fmt.Fprintf(&b, "identity:\n leeway: %v\n name_lookup_timeout: %v\n bitbucket:\n", c.Identity.Leeway, c.Identity.NameLookupTimeout)
	for _, w := range c.Identity.Bitbucket {
		line(1, "- workspace", q(w.Workspace))
		line(3, "workspace_uuid", q("{"+strings.ToUpper(w.WorkspaceUUID)+"}"))
		line(3, "issuer", q(w.Issuer))
		b.WriteString("   audiences:\n")
		for _, a := range w.Audiences {
			b.WriteString("   - " + q(a) + "\n")
		}
		if w.API != nil {
			line(3, "api", "{url: "+q(w.API.URL)+", token_file: "+q(w.API.Token.file)+"}")
		}
	}
	line(0, "policy", fmt.Sprintf("{directory: %s, evaluation_timeout: %v}", q(c.Policy.Directory), c.Policy.EvaluationTimeout))
	b.WriteString("audit:\n")
	line(1, "embedded", c.Audit.Embedded)
	for _, s := range []struct{ key, value string }{
		{"database_url_file", c.Audit.Database.file}, {"database_url_env", c.Audit.Database.env},
		{"sealer_database_url_file", c.Audit.Sealer.file}, {"sealer_database_url_env", c.Audit.Sealer.env}, {"migration_url_file", c.Audit.Migration.file},
	} {
		if s.value != "" {
			line(1, s.key, q(s.value))
		}
	}
	b.WriteString("egress:\n")
	line(1, "connect_timeout", c.Egress.ConnectTimeout)
	line(1, "resolvers", quoted(c.Egress.Resolvers))
	line(1, "allow_networks", quoted(c.Egress.AllowNetworks))
	line(1, "deny_networks", quoted(c.Egress.DenyNetworks))
	for i, v := range c.Egress.UpstreamProxies {
		if i == 0 {
			line(1, "upstream_proxies", "")
		}
		line(1, "- proxy", q(v.Proxy))
		if len(v.Hosts) > 0 {
			line(3, "hosts", quoted(v.Hosts))
		}
		if len(v.Except) > 0 {
			line(3, "except", quoted(v.Except))
		}
		line(3, "dns", q(v.DNS))
		for key, file := range map[string]string{"credential_file": v.Credential.file, "ca_file": v.CAFile} {
			if file != "" {
				line(3, key, q(file))
			}
		}
	}
	tunnel := c.Egress.Tunnel
	line(1, "tunnel", fmt.Sprintf("{idle_timeout: %v, max_lifetime: %v, hello_timeout: %v}", tunnel.IdleTimeout, tunnel.MaxLifetime, tunnel.HelloTimeout))
	line(0, "limits", fmt.Sprintf("{max_header_bytes: %d, read_header_timeout: %v}", c.Limits.MaxHeaderBytes, c.Limits.ReadHeaderTimeout))
	line(0, "shutdown", fmt.Sprintf("{drain_timeout: %v}", c.Shutdown.DrainTimeout))
	line(0, "log", fmt.Sprintf("{format: %s, level: %s}", c.Log.Format, strings.ToLower(c.Log.Level.String())))
	line(0, "data_directory", q(c.DataDirectory))
	return b.String()
}

func quoted[T any](values []T) string {
	var all []string
	for _, v := range values {
		all = append(all, fmt.Sprintf("'%v'", v))
	}
	return "[" + strings.Join(all, ", ") + "]"
}
