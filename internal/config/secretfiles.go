package config

import "fmt"

// SecretKind is what a secret is for.
type SecretKind string

// The kinds of secrets.
const (
	APIToken         SecretKind = "api_token"         // of Bitbucket's REST API, or of a destination of checkpoints
	GitCredential    SecretKind = "git_credential"    // of the policy repository, over https
	SSHKey           SecretKind = "ssh_key"           // of the policy repository, over ssh
	ConnectionString SecretKind = "connection_string" // of a database
	SigningKey       SecretKind = "signing_key"       // of the log's checkpoints
	ProxyCredential  SecretKind = "proxy_credential"  // of an upstream proxy
	PrivateKey       SecretKind = "private_key"       // of a listener's certificate
	Certificate      SecretKind = "certificate"       // not a secret; it ends, as a secret should
	WebhookSecret    SecretKind = "webhook_secret"    // of a receiver
	PreviousSecret   SecretKind = "previous_secret"   // of a receiver or an endpoint, during a rotation
	EndpointSecret   SecretKind = "endpoint_secret"   // with which deliveries are signed again
	KubernetesToken  SecretKind = "kubernetes_token"  // of a service account
	AgentCredential  SecretKind = "agent_credential"  // of a webhook agent; in the database
)

// SecretFile is a secret of the configuration, or a certificate.
type SecretFile struct {
	Key  string // the configuration's key, with an endpoint's name, or an entry's number from 0, in brackets; unique
	Kind SecretKind
	Path string // empty: the secret is from the environment
	// Secret reads the secret; the zero Secret for a key or a certificate, which others read.
	Secret Secret
}

// SecretFiles returns the files of the configuration's secrets, in its order: tokens,
// credentials, private keys and connection strings. The secrets of webhook receivers are
// not among them: the receivers watch those themselves. Previous secrets are not either:
// most of the time they are placeholders. Secrets from the environment have no file.
func (c *Config) SecretFiles() []SecretFile {
	var files []SecretFile
	for _, s := range c.Secrets() {
		switch {
		case s.Path == "" || s.Kind == Certificate || s.Kind == WebhookSecret || s.Kind == PreviousSecret:
		default:
			files = append(files, s)
		}
	}
	return files
}

// Secrets returns every secret of the configuration, in its order, and the certificates. A
// secret from the environment has no path.
func (c *Config) Secrets() []SecretFile {
	var l secretList
	for i, listener := range c.Listeners {
		l.tls(fmt.Sprintf("listeners[%d]", i), listener.TLS)
	}
	for i, b := range c.Identity.Bitbucket {
		if b.API != nil {
			l.secret(fmt.Sprintf("identity.bitbucket[%d].api.token_file", i), APIToken, b.API.Token)
		}
	}
	if g := c.Policy.Git; g != nil {
		l.secret("policy.git.credentials_file", GitCredential, g.Credentials)
		l.path("policy.git.ssh_key_file", SSHKey, g.SSHKeyFile)
	}
	l.secret("audit.database_url_file", ConnectionString, c.Audit.Database)
	l.secret("audit.sealer_database_url_file", ConnectionString, c.Audit.Sealer)
	l.secret("audit.migration_url_file", ConnectionString, c.Audit.Migration)
	l.secret("audit.signing_key_file", SigningKey, c.Audit.SigningKey)
	l.secret("audit.checkpoints.token_file", APIToken, c.Audit.Checkpoints.Token)
	for i, u := range c.Egress.UpstreamProxies {
		l.secret(fmt.Sprintf("egress.upstream_proxies[%d].credential_file", i), ProxyCredential, u.Credential)
	}
	if c.Webhooks != nil {
		l.webhooks(c.Webhooks)
	}
	return l
}

// secretList is a list of secrets while it is made.
type secretList []SecretFile

func (l *secretList) path(key string, kind SecretKind, path string) {
	if path != "" {
		*l = append(*l, SecretFile{Key: key, Kind: kind, Path: path})
	}
}

func (l *secretList) secret(key string, kind SecretKind, s Secret) {
	if !s.IsZero() {
		*l = append(*l, SecretFile{key, kind, s.File(), s})
	}
}

func (l *secretList) tls(key string, t *TLS) {
	if t != nil {
		l.path(key+".tls.certificate_file", Certificate, t.CertificateFile)
		l.path(key+".tls.key_file", PrivateKey, t.KeyFile)
	}
}

func (l *secretList) webhooks(w *Webhooks) {
	l.tls("webhooks.listener", w.Listener.TLS)
	for _, r := range w.Receivers {
		l.secret("webhooks.receivers["+r.Name+"].secret_file", WebhookSecret, r.Secret)
		l.secret("webhooks.receivers["+r.Name+"].previous_secret_file", PreviousSecret, r.Previous)
	}
	for _, e := range w.Endpoints {
		if e.Sign != nil {
			l.secret("webhooks.endpoints["+e.Name+"].sign.secret_file", EndpointSecret, e.Sign.Secret)
			l.secret("webhooks.endpoints["+e.Name+"].sign.previous_secret_file", PreviousSecret, e.Sign.Previous)
		}
	}
	for _, r := range w.Resources {
		if r.Kubernetes != nil {
			l.secret("webhooks.resources["+r.Name+"].kubernetes.token_file", KubernetesToken, r.Kubernetes.Token)
		}
	}
}
