package config

import (
	"net/netip"
	"time"
)

// The functions below are the schema: every key that a configuration may have, with its type, its default and what it
// means. docs/configuration.md is written from them.

func rootFields(c *Config) []field {
	return []field{
		sections("listeners", &c.Listeners, listenerFields, "Where steps reach the proxy; at least one.", required),
		section("admin", &c.Admin, adminFields, "The read-only listener for `/healthz`, `/readyz` and `/metrics`."),
		section("identity", &c.Identity, identityFields, "Whose tokens are accepted.", required),
		section("policy", &c.Policy, policyFields, "Where the policy comes from; exactly one of `directory` and `git`.", required),
		section("audit", &c.Audit, auditFields, "Where the audit log is kept: `database_url_file`, `database_url_env` or `embedded: true`.", required),
		section("egress", &c.Egress, egressFields, "The way out."),
		section("limits", &c.Limits, limitsFields, "What a client may do before it is known, and what a step may take."),
		section("shutdown", &c.Shutdown, shutdownFields, "How the server ends."),
		section("log", &c.Log, logFields, "The server's own log, on standard error."),
		scalar("data_directory", &c.DataDirectory, directoryToBe, "The server's own state: control socket, embedded database, journal. Made where it does not exist.",
			fallback("./sallyport-data")),
	}
}

func listenerFields(l *Listener) []field {
	return []field{
		scalar("address", &l.Address, listenAddress, "IP address and port to listen on; without an IP address all of the machine's.", required),
		scalar("plaintext", &l.Plaintext, boolean, "Allows a listener without TLS off loopback, where it receives bearer tokens in the clear.",
			fallback("false")),
		optional("tls", &l.TLS, tlsFields, "Makes it a TLS listener. The files are loaded again when they change."),
		list[netip.Prefix]("proxy_protocol_from", &l.ProxyProtocolFrom, network, 0, 1000,
			"Networks of load balancers whose connections begin with a PROXY protocol header, version 1 or 2. From there it is required, from elsewhere it is refused."),
	}
}

func tlsFields(t *TLS) []field {
	return []field{
		scalar("certificate_file", &t.CertificateFile, existingFile, "The certificate and its chain, PEM.", required),
		scalar("key_file", &t.KeyFile, keyFile, "The certificate's private key, PEM.", required),
	}
}

func adminFields(a *Admin) []field {
	return []field{
		scalar("address", &a.Address, listenAddress, "IP address and port to listen on.", fallback("127.0.0.1:9128")),
		scalar("exposed", &a.Exposed, boolean, "Allows an address off loopback: whoever reaches it reads the metrics.", fallback("false")),
	}
}

func identityFields(i *Identity) []field {
	return []field{
		sections("bitbucket", &i.Bitbucket, bitbucketFields, "One entry for each Bitbucket workspace; at least one.", required),
		scalar("leeway", &i.Leeway, between(duration, 0, 5*time.Minute), "Clock difference allowed when a token's times are checked.", fallback("30s")),
		scalar("names_wait", &i.NamesWait, between(duration, time.Millisecond, time.Minute),
			"How long a decision waits for a name that was never known before it is refused with `names_unavailable`.", fallback("5s")),
		scalar("admitted_max_age", &i.AdmittedMaxAge, between(duration, 0, 24*time.Hour),
			"How long after its first use a token is honoured past its end, for its own step and by its digest. `0s`: not at all.", fallback("0s")),
		scalar("on_expiry", &i.OnExpiry, choice(ExpiryKeep, ExpiryClose),
			"What becomes of a tunnel when the token that opened it ends: `keep` lets it go on, `close` closes it.", fallback(ExpiryKeep)),
		scalar("expiry_grace", &i.ExpiryGrace, between(duration, 0, 24*time.Hour), "How long after the token's end `on_expiry: close` closes.", fallback("1m")),
	}
}

func bitbucketFields(b *Bitbucket) []field {
	return []field{
		scalar("workspace", &b.Workspace, slug, "The workspace's slug, as in its URL.", required),
		scalar("workspace_uuid", &b.WorkspaceUUID, uuid, "The workspace's UUID, which a token must carry; braces and upper case are accepted.", required),
		scalar("issuer", &b.Issuer, issuer, "The identity provider URL of the workspace's OpenID Connect page; compared exactly with a token's `iss`.", required),
		list("audiences", &b.Audiences, audience, 1, 10, "Audiences of which a token must carry one; at most 10, each of at most 150 characters.", required),
		optional("api", &b.API, apiFields, "The REST API that names come from. Without it policy sees UUIDs only."),
	}
}

func apiFields(a *API) []field {
	return []field{
		scalar("url", &a.URL, webURL, "The API's base.", fallback("https://api.bitbucket.org/2.0")),
		scalar("token_file", &a.Token, secretFile, "A workspace access token with the scopes `repository` and `pipeline`. The file may change while the server runs.", required),
	}
}

func policyFields(p *Policy) []field {
	return []field{
		scalar("directory", &p.Directory, existingDirectory, "A directory in the layout of a policy repository."),
		optional("git", &p.Git, gitFields, "A policy repository that is polled. Not available in this version."),
		scalar("evaluation_timeout", &p.EvaluationTimeout, between(duration, time.Millisecond, 30*time.Second),
			"Bounds the evaluation of one decision; past it the answer is deny.", fallback("1s")),
	}
}

func gitFields(g *Git) []field {
	return []field{
		scalar("url", &g.URL, gitURL, "Where to clone from: `https://` or `ssh://`.", required),
		scalar("branch", &g.Branch, branch, "The branch that decides.", fallback("main")),
		scalar("path", &g.Path, folder, "The policy's folder inside the repository.", fallback(".")),
		scalar("poll", &g.Poll, between(duration, 5*time.Second, 24*time.Hour), "How often to look for a new commit.", fallback("1m")),
		scalar("credentials_file", &g.Credentials, secretFile, "The access token for `https://`, or the private key for `ssh://`."),
	}
}

func auditFields(a *Audit) []field {
	return []field{
		scalar("database_url_file", &a.Database, secretFile, "A file with the connection string of the server's login, a member of `sallyport_writer`."),
		scalar("database_url_env", &a.Database, secretEnv, "The name of the environment variable that holds that connection string."),
		scalar("embedded", &a.Embedded, boolean, "The server runs a PostgreSQL of its own under `data_directory`.", fallback("false")),
		scalar("migration_url_file", &a.Migration, laterSecretFile, "A file with the connection string for `sallyport migrate`, a member of `sallyport_owner`. Required unless `embedded`."),
		scalar("signing_key_file", &a.SigningKey, secretFile, "The key that signs checkpoints. Not available in this version."),
		scalar("on_outage", &a.OnOutage, choice(OutageDeny, OutageSpool),
			"What becomes of an allow while the database is away: `deny`, or `spool` (not available in this version).", fallback(OutageDeny)),
	}
}

func egressFields(e *Egress) []field {
	return []field{
		list[netip.AddrPort]("resolvers", &e.Resolvers, resolver, 0, 16, "DNS servers. Absent or empty: the system's."),
		list[netip.Prefix]("allow_networks", &e.AllowNetworks, network, 0, 1000, "Exceptions to the private, loopback, link-local, metadata and other ranges that are always refused."),
		list[netip.Prefix]("deny_networks", &e.DenyNetworks, network, 0, 1000, "Networks that are refused in addition, whatever `allow_networks` says."),
		scalar("connect_timeout", &e.ConnectTimeout, between(duration, 100*time.Millisecond, 2*time.Minute), "Bounds one connection attempt to a target.", fallback("10s")),
		section("tunnel", &e.Tunnel, tunnelFields, "Bounds of an open tunnel."),
	}
}

func tunnelFields(t *Tunnel) []field {
	return []field{
		scalar("idle_timeout", &t.IdleTimeout, between(duration, time.Second, 24*time.Hour), "A tunnel in which nothing moves in either direction for so long is closed.", fallback("10m")),
		scalar("max_lifetime", &t.MaxLifetime, between(duration, time.Second, 7*24*time.Hour), "No tunnel lives longer.", fallback("2h")),
		scalar("hello_timeout", &t.HelloTimeout, between(duration, 100*time.Millisecond, time.Minute), "How long a tunnel may take to show its TLS ClientHello.", fallback("5s")),
	}
}

func limitsFields(l *Limits) []field {
	return []field{
		scalar("head_size", &l.HeadSize, between(size, 16<<10, 1<<20), "The greatest request head. The credential is in it: less than 16KiB is refused.", fallback("64KiB")),
		scalar("head_timeout", &l.HeadTimeout, between(duration, 100*time.Millisecond, 5*time.Minute), "How long a client may take to send a request head.", fallback("10s")),
		scalar("connections", &l.Connections, between(count, 10, 10_000_000), "Client connections open at once, tunnels included; over it the answer is 503 `overloaded`. Half of them may be without a request: of those, the one goes that has waited longest from the address that has most.", fallback("20000")),
		scalar("waiting_per_address", &l.WaitingPerAddress, between(count, 1, 10_000_000), "Connections of one address (of IPv6, one /64) that may be without a request at once; over it the one that has waited longest is closed.", fallback("1000")),
		section("step", &l.Step, limitFields("500", "200"), "What one step may take; over it the answer is 429 `step_limit`."),
		section("repository", &l.Repository, limitFields("4000", "1000"), "What the steps of one repository may take together; over it 429 `repository_limit`."),
		section("total", &l.Total, limitFields("16000", "0"), "What all steps may take together; over it 503 `instance_limit`."),
	}
}

func limitFields(tunnels, requests string) func(*Limit) []field {
	return func(l *Limit) []field {
		return []field{
			scalar("tunnels", &l.Tunnels, count, "Tunnels open at once, with the requests under way; 0 is no limit.", fallback(tunnels)),
			scalar("requests_per_second", &l.RequestsPerSecond, count, "CONNECTs and requests, refused ones too; as many may come at once. 0 is no limit.", fallback(requests)),
		}
	}
}

func shutdownFields(s *Shutdown) []field {
	return []field{
		scalar("drain_timeout", &s.DrainTimeout, between(duration, 0, 24*time.Hour), "How long open tunnels may go on after the server was told to end.", fallback("30s")),
	}
}

func logFields(l *Log) []field {
	return []field{
		scalar("format", &l.Format, choice(FormatJSON, FormatText), "`json` or `text`.", fallback(FormatJSON)),
		scalar("level", &l.Level, logLevel, "`debug`, `info`, `warn` or `error`.", fallback("info")),
	}
}
