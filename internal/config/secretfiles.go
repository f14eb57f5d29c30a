package config

import "fmt"

// SecretFile is a file that holds a secret of the configuration.
type SecretFile struct {
	Key  string // the configuration's key, with an endpoint's name, or an entry's number from 0, in brackets; unique
	Path string
}

// SecretFiles returns the files of the configuration's secrets, in its order: tokens,
// credentials, private keys and connection strings. The secrets of webhook receivers are
// not among them: the receivers watch those themselves. Secrets from the environment have
// no file.
func (c *Config) SecretFiles() []SecretFile {
	var files []SecretFile
	path := func(name, key, path string) {
		if path != "" {
			files = append(files, SecretFile{name + key, path})
		}
	}
	secret := func(name, key string, s Secret) { path(name, key, s.File()) }
	for i, l := range c.Listeners {
		if l.TLS != nil {
			path(fmt.Sprintf("listeners[%d]", i), ".tls.key_file", l.TLS.KeyFile)
		}
	}
	for i, b := range c.Identity.Bitbucket {
		if b.API != nil {
			secret(fmt.Sprintf("identity.bitbucket[%d]", i), ".api.token_file", b.API.Token)
		}
	}
	if g := c.Policy.Git; g != nil {
		secret("policy.git", ".credentials_file", g.Credentials)
		path("policy.git", ".ssh_key_file", g.SSHKeyFile)
	}
	secret("audit", ".database_url_file", c.Audit.Database)
	secret("audit", ".sealer_database_url_file", c.Audit.Sealer)
	secret("audit", ".migration_url_file", c.Audit.Migration)
	secret("audit", ".signing_key_file", c.Audit.SigningKey)
	secret("audit.checkpoints", ".token_file", c.Audit.Checkpoints.Token)
	for i, u := range c.Egress.UpstreamProxies {
		secret(fmt.Sprintf("egress.upstream_proxies[%d]", i), ".credential_file", u.Credential)
	}
	if w := c.Webhooks; w != nil {
		if w.Listener.TLS != nil {
			path("webhooks.listener", ".tls.key_file", w.Listener.TLS.KeyFile)
		}
		for _, e := range w.Endpoints {
			if e.Sign != nil {
				secret("webhooks.endpoints["+e.Name+"]", ".sign.secret_file", e.Sign.Secret)
			}
		}
		for _, r := range w.Resources {
			if r.Kubernetes != nil {
				secret("webhooks.resources["+r.Name+"]", ".kubernetes.token_file", r.Kubernetes.Token)
			}
		}
	}
	return files
}
