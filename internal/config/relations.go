package config

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
)

// relations checks the rules between keys. A key whose own value was refused is passed over: one mistake, one error.
func (d *decoder) relations(cfg *Config) {
	for i, l := range cfg.Listeners {
		d.listener(fmt.Sprintf("listeners[%d]", i), l, "bearer tokens")
	}
	d.admin(cfg.Admin)
	d.addresses(cfg)
	d.workspaces(cfg.Identity.Bitbucket)
	for i, v := range cfg.Egress.UpstreamProxies {
		d.upstreamProxy(fmt.Sprintf("egress.upstream_proxies[%d]", i), v, cfg.Egress.UpstreamProxies[:i])
	}
	d.networks(cfg.Egress)
	d.policySource()
	d.git(cfg.Policy.Git)
	d.candidate(cfg.Policy)
	d.approvals(cfg)
	d.audit(cfg.Audit)
	d.webhooks(cfg)
	d.limits(&cfg.Limits)
	if t := cfg.Egress.Tunnel; d.sound("egress.tunnel.idle_timeout") && t.MaxLifetime > 0 && t.IdleTimeout > t.MaxLifetime {
		d.warn("egress.tunnel.idle_timeout", "", "it is longer than egress.tunnel.max_lifetime (%s) and so never used", amount(t.MaxLifetime))
	}
}

// listener checks a listener that receives the named content.
func (d *decoder) listener(path string, l Listener, content string) {
	withTLS := d.has(path + ".tls")
	if withTLS && l.Plaintext {
		d.fail(path+".plaintext", "remove one of the two", "a listener with tls is not plaintext")
	}
	if d.sound(path+".address") && !withTLS && !l.Plaintext && !d.failed[path+".plaintext"] && !loopback(l.Address) {
		d.fail(path+".address", "add tls, or plaintext: true if the network is trusted",
			"the listener is off loopback without TLS, and would receive %s in the clear", content)
	}
	for i, network := range l.ProxyProtocolFrom {
		if network.Bits() == 0 {
			d.warn(fmt.Sprintf("%s.proxy_protocol_from[%d]", path, i), "name the load balancers' own addresses",
				"every client can claim another address, and has to send a PROXY protocol header")
		}
	}
	if l.TLS != nil && !d.unread && d.sound(path+".tls.certificate_file") && d.sound(path+".tls.key_file") {
		d.keyPair(path+".tls", *l.TLS)
	}
}

// keyPair loads the certificate as the listener will.
func (d *decoder) keyPair(path string, t TLS) {
	certificate, err := ReadRegular(t.CertificateFile, maxPEM)
	if err != nil {
		d.fail(path+".certificate_file", "", "the file cannot be used: %v", err)
		return
	}
	key, err := ReadRegular(t.KeyFile, maxPEM)
	if err != nil {
		d.fail(path+".key_file", "", "the file cannot be used: %v", err)
		return
	}
	if bytes.Contains(key, []byte("ENCRYPTED")) {
		d.fail(path+".key_file", "write it without a passphrase, with mode 0600: openssl pkey -in FILE -out NEW", "the key is encrypted, and the server has no passphrase")
		return
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		d.fail(path, "both files are PEM, the certificate first in its chain, and the key is its own", "the certificate and its key cannot be used: %v", err)
		return
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		d.fail(path+".certificate_file", "", "the certificate cannot be parsed: %v", err)
		return
	}
	for _, r := range chainWarnings(leaf, pair.Certificate[1:], d.now) {
		d.warn(path+".certificate_file", r.hint, "%s", r.message)
	}
}

func (d *decoder) admin(a Admin) {
	if d.sound("admin.address") && !a.AllowNonLoopback && !d.failed["admin.allow_non_loopback"] && !loopback(a.Address) {
		d.fail("admin.address", "use 127.0.0.1, or add allow_non_loopback: true if every client that reaches it may read health and metrics", "the admin address is not on loopback")
	}
}

// addresses finds listeners that cannot be bound beside each other. The default admin address has no position of its
// own; a clash with it is reported at the listener.
func (d *decoder) addresses(cfg *Config) {
	type bound struct{ path, address string }
	taken := []bound{{"admin.address", cfg.Admin.Address}}
	own := make([]bound, 0, len(cfg.Listeners)+1)
	for i, l := range cfg.Listeners {
		own = append(own, bound{fmt.Sprintf("listeners[%d].address", i), l.Address})
	}
	if cfg.Webhooks != nil {
		own = append(own, bound{"webhooks.listener.address", cfg.Webhooks.Listener.Address})
	}
	for _, own := range own {
		if own.address == "" {
			continue
		}
		for _, other := range taken {
			if other.address != "" && collide(own.address, other.address) {
				d.fail(own.path, "choose another port", "it cannot listen beside %s (%s)", other.path, other.address)
				break
			}
		}
		taken = append(taken, own)
	}
}

// workspaces keeps entries apart: a token must lead to exactly one.
func (d *decoder) workspaces(all []Bitbucket) {
	for _, key := range []struct {
		name  string
		value func(Bitbucket) string
	}{
		{"workspace", func(b Bitbucket) string { return b.Workspace }},
		{"workspace_uuid", func(b Bitbucket) string { return b.WorkspaceUUID }},
		{"issuer", func(b Bitbucket) string { return b.Issuer }},
	} {
		first := map[string]string{}
		for i, b := range all {
			path := fmt.Sprintf("identity.bitbucket[%d].%s", i, key.name)
			value := key.value(b)
			if value == "" {
				continue
			}
			if other, taken := first[value]; taken {
				d.fail(path, "a workspace has one entry", "it is the same as %s", other)
				continue
			}
			first[value] = path
		}
	}
	for i, b := range all {
		d.issuerOf(fmt.Sprintf("identity.bitbucket[%d].issuer", i), b)
	}
}

// issuerOf warns of an issuer in Bitbucket's form that names another workspace, by slug or UUID.
func (d *decoder) issuerOf(path string, b Bitbucket) {
	_, rest, found := strings.Cut(b.Issuer, "/workspaces/")
	if !found || b.Workspace == "" || b.WorkspaceUUID == "" {
		return
	}
	name, _, _ := strings.Cut(rest, "/")
	bare := strings.ToLower(strings.NewReplacer("{", "", "}", "", "%7B", "", "%7D", "").Replace(name))
	if name != b.Workspace && bare != b.WorkspaceUUID {
		d.warn(path, "compare it with the workspace's OpenID Connect page", "the issuer names the workspace %s, and workspace is %s", quote(name), quote(b.Workspace))
	}
}

func (d *decoder) policySource() {
	if !d.has("policy") || d.failed["policy"] {
		return
	}
	switch directory, git := d.has("policy.directory"), d.has("policy.git"); {
	case directory && git:
		d.failAt(d.keys["policy.git"], "policy.git", "keep one of the two", "policy.directory is given too")
	case !directory && !git:
		d.failAt(d.keys["policy"], "policy", "add directory: with the name of the policy's directory", "no source of policy is given")
	}
}

// git checks what belongs to which protocol, and fills in the branch.
func (d *decoder) git(g *Git) {
	if g == nil {
		return
	}
	switch branch, tag := d.has("policy.git.branch"), d.has("policy.git.tag"); {
	case branch && tag:
		d.fail("policy.git.tag", "keep one of the two", "policy.git.branch is given too")
	case !branch && !tag:
		g.Branch = "main"
	}
	if g.URL == nil {
		return
	}
	ssh := g.URL.Scheme == "ssh"
	for _, key := range []struct {
		name string
		ssh  bool
	}{{"credentials_file", false}, {"user", false}, {"ca_file", false}, {"ssh_key_file", true}, {"known_hosts_file", true}} {
		path := "policy.git." + key.name
		if d.has(path) && key.ssh != ssh {
			d.fail(path, "remove it, or write another URL", "the key does not go with a URL that begins with %s://", g.URL.Scheme)
		}
	}
	for _, name := range []string{"ssh_key_file", "known_hosts_file"} {
		if path := "policy.git." + name; ssh && !d.has(path) {
			d.failAt(d.keys["policy.git"], path, "add it; there is no prompt for a password, and no server is trusted at first sight", "the key is required for ssh:// and missing")
		}
	}
}

func (d *decoder) candidate(p Policy) {
	if p.Candidate == nil {
		return
	}
	const path = "policy.candidate"
	switch directory, branch := d.has(path+".directory"), d.has(path+".branch"); {
	case directory == branch:
		d.failAt(d.keys[path], path, "", "give exactly one of directory and branch")
	case branch && p.Git == nil:
		d.fail(path+".branch", "give a directory", "there is no policy.git that it could be a branch of")
	case branch && p.Candidate.Branch == p.Git.Branch:
		d.fail(path+".branch", "name another one", "it is the branch that decides")
	}
}

// approvals checks policy.approvals.repository: a repository whose pull requests cannot be read is an error. Without
// it, the repository of policy.git's URL is a guess, and no error.
func (d *decoder) approvals(cfg *Config) {
	const path = "policy.approvals.repository"
	if !d.has(path) || d.failed[path] || cfg.Policy.Approvals.Repository == "" {
		return
	}
	if cfg.Policy.Git == nil {
		d.fail(path, "remove it, or let policy come from policy.git", "a policy directory has no pull requests")
		return
	}
	workspace, _, _ := strings.Cut(cfg.Policy.Approvals.Repository, "/")
	for _, b := range cfg.Identity.Bitbucket {
		if b.Workspace == workspace {
			if b.API == nil {
				d.fail(path, "add api to the workspace under identity.bitbucket, with a token that has the scope pullrequest", "the workspace %s has no API", workspace)
			}
			return
		}
	}
	d.fail(path, "name a repository of a workspace under identity.bitbucket", "the workspace %s is not configured", workspace)
}
