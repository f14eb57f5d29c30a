package config

import (
	"net/netip"
	"time"

	"github.com/sallyport/sallyport/internal/destination"
)

// The functions below are the schema of the configuration: every key with its type, default and meaning.
// docs/configuration.md is generated from them.

func rootFields(c *Config) []field {
	return []field{
		sections("listeners", &c.Listeners, listenerFields, "The addresses at which steps reach the proxy; at least one.", required),
		section("admin", &c.Admin, adminFields, "The read-only listener for `/healthz`, `/readyz` and `/metrics`."),
		section("identity", &c.Identity, identityFields, "The workspaces whose tokens are accepted.", required),
		section("policy", &c.Policy, policyFields, "The source of the policy; exactly one of `directory` and `git`.", required),
		section("audit", &c.Audit, auditFields, "The database of the audit log: `database_url_file`, `database_url_env` or `embedded: true`.", required),
		section("egress", &c.Egress, egressFields, "Connections to targets."),
		optional("webhooks", &c.Webhooks, webhooksFields, "Bitbucket's webhook deliveries: who may deliver, and what happens with a delivery. Absent: none are received."),
		section("limits", &c.Limits, limitsFields, "Limits of a client before its token is verified, and of a step, a repository and all steps."),
		section("self_test", &c.SelfTest, selfTestFields, "Probes that the server sends on the path of a step's request: one that the policy must refuse, and one that must reach its target."),
		section("shutdown", &c.Shutdown, shutdownFields, "The shutdown of the server."),
		section("log", &c.Log, logFields, "The server's own log, on standard error."),
		scalar("data_directory", &c.DataDirectory, directoryToBe, "The server's own state: control socket, embedded database, journal. Created if it does not exist.",
			fallback("./sallyport-data")),
		scalar("step_binaries", &c.StepBinaries, policyDirectory, "The builds of `sallyport-step` that steps download at `/sallyport-step/`, with their `.sha256` files, as `make step` writes them to `bin/step`. Absent: none are offered."),
	}
}

func listenerFields(l *Listener) []field {
	return []field{
		scalar("address", &l.Address, listenAddress, "IP address and port to listen on; without an IP address, all addresses of the machine.", required),
		scalar("plaintext", &l.Plaintext, boolean, "Allows a listener without TLS that is not on loopback. The listener then receives bearer tokens unencrypted.",
			fallback("false")),
		optional("tls", &l.TLS, tlsFields, "Enables TLS on the listener. The server reloads the files when they change."),
		list[netip.Prefix]("proxy_protocol_from", &l.ProxyProtocolFrom, network, 0, 1000,
			"Networks of load balancers whose connections begin with a PROXY protocol header, version 1 or 2. The header is required from these networks, and refused from all others."),
	}
}

func tlsFields(t *TLS) []field {
	return []field{
		scalar("certificate_file", &t.CertificateFile, existingFile, "The certificate and its chain, in PEM.", required),
		scalar("key_file", &t.KeyFile, keyFile, "The certificate's private key, in PEM.", required),
	}
}

func adminFields(a *Admin) []field {
	return []field{
		scalar("address", &a.Address, listenAddress, "IP address and port to listen on.", fallback("127.0.0.1:9128")),
		scalar("allow_non_loopback", &a.AllowNonLoopback, boolean, "Allows an address other than loopback: every client that reaches it can read the metrics.", fallback("false")),
	}
}

func identityFields(i *Identity) []field {
	return []field{
		sections("bitbucket", &i.Bitbucket, bitbucketFields, "One entry for each Bitbucket workspace; at least one.", required),
		scalar("leeway", &i.Leeway, between(duration, 0, 5*time.Minute), "Clock difference allowed when a token's times are checked.", fallback("30s")),
		scalar("name_lookup_timeout", &i.NameLookupTimeout, between(duration, time.Millisecond, time.Minute),
			"How long a decision waits for a name that is not cached; then the request is refused with `names_unavailable`.", fallback("5s")),
		scalar("max_lifetime", &i.MaxLifetime, between(duration, time.Minute, 24*time.Hour),
			"The maximum lifetime of a token, from `iat` to `exp`; a token with a longer lifetime is refused with `credential_lifetime`.", fallback("12h")),
		scalar("jwks_max_age", &i.JWKSMaxAge, between(duration, 10*time.Second, 7*24*time.Hour),
			"How long an issuer's keys are used if they cannot be fetched again.", fallback("24h")),
		scalar("name_cache_max_age", &i.NameCacheMaxAge, between(duration, 10*time.Second, 7*24*time.Hour),
			"How long a name is used if it cannot be looked up again.", fallback("24h")),
		scalar("expired_token_grace_period", &i.ExpiredTokenGracePeriod, between(duration, 0, 24*time.Hour),
			"How long after its first use an expired token is accepted, from its own step and by its digest. `0s`: not at all.", fallback("0s")),
		scalar("on_expiry", &i.OnExpiry, choice(ExpiryKeep, ExpiryClose),
			"The effect of the expiry of a token on the tunnels that it opened: `keep` keeps them open, `close` closes them.", fallback(ExpiryKeep)),
		scalar("expiry_grace", &i.ExpiryGrace, between(duration, 0, 24*time.Hour), "How long after the token's expiry `on_expiry: close` closes its tunnels.", fallback("1m")),
	}
}

func bitbucketFields(b *Bitbucket) []field {
	return []field{
		scalar("workspace", &b.Workspace, slug, "The workspace's slug, as in its URL.", required),
		scalar("workspace_uuid", &b.WorkspaceUUID, bitbucketUUID, "The workspace's UUID, which a token must carry; braces and upper case are accepted.", required),
		scalar("issuer", &b.Issuer, issuer, "The identity provider URL of the workspace's OpenID Connect page; compared exactly with a token's `iss`.", required),
		list("audiences", &b.Audiences, audience, 1, 10, "Audiences of which a token must carry one; at most 10, each of at most 150 characters.", required),
		optional("api", &b.API, apiFields, "The REST API from which names are fetched. Without it the policy sees UUIDs only."),
	}
}

func apiFields(a *API) []field {
	return []field{
		scalar("url", &a.URL, webURL, "The base URL of the API.", fallback("https://api.bitbucket.org/2.0")),
		scalar("token_file", &a.Token, secretFile, "A workspace access token with the scopes `repository` and `pipeline`, and `pullrequest` for `policy.approvals`. The file may change while the server runs.", required),
	}
}

func policyFields(p *Policy) []field {
	return []field{
		scalar("directory", &p.Directory, policyDirectory, "A directory in the layout of a policy repository. While the directory does not exist, the last good revision stays active."),
		optional("git", &p.Git, gitFields, "A policy repository in Git, which is polled. It needs the `git` program."),
		scalar("evaluation_timeout", &p.EvaluationTimeout, between(duration, time.Millisecond, 30*time.Second),
			"The maximum time of the evaluation of one decision; an evaluation that takes longer denies.", fallback("1s")),
		scalar("decision_cache", &p.DecisionCache, between(size, 0, 16<<30),
			"The memory for decisions of the active revision that are used again for the same parts of the input that the rules can read. `0`: every request is evaluated. Decisions are the same.", fallback("64MiB")),
		section("workers", &p.Workers, workersFields, "The processes that execute repositories' rules and tests, read data files, and evaluate candidates."),
		scalar("repository_failure", &p.RepositoryFailure, choice(RepositoryKeepPrevious, RepositoryDeny),
			"The effect on a repository whose folder fails a check, a test or an evaluation, while the rest of the revision is activated. `keep_previous` keeps its rules of the latest revision in which they passed, and denies everything if there are none. `deny` denies everything.", fallback(RepositoryKeepPrevious)),
		optional("candidate", &p.Candidate, candidateFields, "A policy that is evaluated in addition to the active policy, without delay for requests. Differences between the two are counted and recorded."),
		section("approvals", &p.Approvals, approvalsFields, "Approvals of the pull requests that merged the activated commits. The server reads them from Bitbucket after the activation and records them. It needs `git`, and the `api` of the workspace with a token that also has the scope `pullrequest`."),
		scalar("exception_expiry_warning", &p.ExceptionExpiryWarning, between(duration, 0, 366*24*time.Hour),
			"How long before its `until` an exception of a list with `owner`, `ticket` and `until` is reported.", fallback("168h")),
		scalar("max_age", &p.MaxAge, between(duration, 0, 366*24*time.Hour),
			"How long a revision stays in force after its source last offered it; after that every request is refused. At a start without the source, it is also the maximum age of the revision on disk. `0s`: no limit.", fallback("0s")),
	}
}

func workersFields(w *PolicyWorkers) []field {
	return []field{
		scalar("processes", &w.Processes, between(count, 0, 256), "The maximum number of processes. `0`: two for each processor, and at least six. A repository uses one at a time.", fallback("0")),
		scalar("max_memory", &w.MaxMemory, between(size, 64<<20, 64<<30), "The memory of one process, beyond what the process has when it starts. A policy that needs more is refused.", fallback("256MiB")),
		scalar("max_queued", &w.MaxQueued, between(count, 1, 100_000), "The maximum number of waiting evaluations of one repository; more are refused with `policy_error`.", fallback("256")),
		scalar("queue_timeout", &w.QueueTimeout, between(duration, 10*time.Millisecond, 5*time.Minute), "How long an evaluation may wait for a process before the request is refused with `policy_error`.", fallback("10s")),
	}
}

func approvalsFields(a *Approvals) []field {
	return []field{
		scalar("enabled", &a.Enabled, boolean, "Whether approvals are read, if the repository is known.", fallback("true")),
		scalar("repository", &a.Repository, repository, "The policy repository in Bitbucket, `workspace/name`. Default: the repository of `git.url`, if its host is `bitbucket.org`."),
		scalar("deadline", &a.Deadline, between(duration, time.Minute, 14*24*time.Hour), "How long after an activation Bitbucket is queried, at intervals, before the outcome is recorded as `unknown`.", fallback("24h")),
	}
}

func candidateFields(c *Candidate) []field {
	return []field{
		scalar("directory", &c.Directory, existingDirectory, "A directory in the layout of a policy repository."),
		scalar("branch", &c.Branch, branch, "Another branch of the repository in `git`."),
	}
}

func gitFields(g *Git) []field {
	return []field{
		scalar("url", &g.URL, gitURL, "The URL of the repository: `https://` or `ssh://`.", required),
		scalar("branch", &g.Branch, branch, "The branch of the policy. Absent: `main`, unless `tag` is given."),
		scalar("tag", &g.Tag, branch, "The tag of the policy, instead of a branch."),
		scalar("path", &g.Path, folder, "The policy's folder inside the repository.", fallback(".")),
		scalar("poll_interval", &g.PollInterval, between(duration, 5*time.Second, 24*time.Hour), "How often to poll for a new commit. `sallyport policy reload` polls at once.", fallback("1m")),
		scalar("credentials_file", &g.Credentials, secretFile, "The access token for `https://`. The file is read at every poll, so that the token can be renewed."),
		scalar("user", &g.User, gitUser, "The user name for the token.", fallback("x-token-auth")),
		scalar("ca_file", &g.CAFile, existingFile, "Additional certificate authorities for `https://`, in PEM."),
		scalar("ssh_key_file", &g.SSHKeyFile, keyFile, "The private key for `ssh://`, without a passphrase."),
		scalar("known_hosts_file", &g.KnownHostsFile, existingFile, "The server's keys for `ssh://`, as `ssh-keyscan` prints them. No other key is trusted."),
		scalar("allowed_signers_file", &g.AllowedSignersFile, existingFile, "Public SSH keys, one on each line: only a commit that one of them signed is activated."),
		scalar("non_fast_forward", &g.NonFastForward, choice(NonFastForwardReject, NonFastForwardAllow),
			"Whether a commit that does not descend from the active one is activated: `reject`, or `allow`, which is recorded.", fallback(NonFastForwardReject)),
	}
}

func auditFields(a *Audit) []field {
	return []field{
		scalar("database_url_file", &a.Database, secretFile, "A file with the connection string of the server's login, a member of `sallyport_writer`."),
		scalar("database_url_env", &a.Database, secretEnv, "The name of an environment variable with the connection string of `database_url_file`, which it replaces."),
		scalar("sealer_database_url_file", &a.Sealer, secretFile, "A file with the connection string of the login that seals, a member of `sallyport_sealer`. Absent: the server seals with the login that records, which must also be a member of `sallyport_sealer`."),
		scalar("sealer_database_url_env", &a.Sealer, secretEnv, "The name of an environment variable with the connection string of `sealer_database_url_file`, which it replaces."),
		scalar("embedded", &a.Embedded, boolean, "The server runs an embedded PostgreSQL under `data_directory`.", fallback("false")),
		scalar("migration_url_file", &a.Migration, laterSecretFile, "A file with the connection string for `sallyport migrate`, a member of `sallyport_owner`. Required unless `embedded`."),
		scalar("signing_key_file", &a.SigningKey, secretFile, "The key that signs checkpoints. Absent: `checkpoint-key` in `data_directory`, which the first instance creates and registers in the log. An instance without the log's key records, but does not seal."),
		scalar("on_outage", &a.OnOutage, choice(OutageDeny, OutageSpool),
			"The effect of an unavailable database on requests that the policy allows. `deny`: they are refused. `spool`: they are allowed, and recorded in the journal on this machine's disk until the database recovers. If that disk is lost in the meantime, their events are missing in the log ([audit.md](audit.md#while-the-database-is-unavailable)).", fallback(OutageDeny)),
		scalar("max_journal_bytes", &a.MaxJournalBytes, between(size, 32<<20, 64<<30), "The maximum size of the journal. One repository can fill at most a quarter of its free space.", fallback("256MiB")),
		scalar("journal_max_age", &a.JournalMaxAge, between(duration, time.Minute, 30*24*time.Hour), "How long the journal accepts events after its first event.", fallback("24h")),
		section("checkpoints", &a.Checkpoints, checkpointsFields, "The sealing of the log, and the places to which signed checkpoints are published."),
		section("reconciliation", &a.Reconciliation, reconciliationFields, "The comparison of Bitbucket's deployments with the log, for workspaces with an `api`."),
	}
}

func reconciliationFields(c *Reconciliation) []field {
	return []field{
		scalar("enabled", &c.Enabled, boolean, "Whether deployments are compared with the log.", fallback("true")),
		scalar("interval", &c.Interval, between(duration, time.Second, 7*24*time.Hour), "How often deployments are compared, by all instances together.", fallback("6h")),
		scalar("lookback", &c.Lookback, between(duration, time.Hour, 90*24*time.Hour), "The maximum age of a deployment, by its start. Deployments before the first event of the log are never compared.", fallback("720h")),
		scalar("grace_period", &c.GracePeriod, between(duration, 0, 24*time.Hour), "How long after its end a deployment may be missing in the log before it is reported as `unobserved`.", fallback("15m")),
		scalar("requests_per_hour", &c.RequestsPerHour, between(count, 1, 10_000), "The maximum number of requests per hour to each workspace's API. Bitbucket allows 1,000 an hour, of which name lookups need some. Half of the concurrent requests are always reserved for names.", fallback("200")),
	}
}

func selfTestFields(s *SelfTest) []field {
	return []field{
		scalar("interval", &s.Interval, between(duration, 0, 31*24*time.Hour), "How often the self-test runs, in addition to once at the start. `0s`: never.", fallback("24h")),
	}
}

func checkpointsFields(c *Checkpoints) []field {
	return []field{
		scalar("interval", &c.Interval, between(duration, 100*time.Millisecond, 10*time.Second), "How often recorded events are sealed.", fallback("5s")),
		list("files", &c.Files, fileToBe, 0, 16, "Files that each checkpoint is appended to, on storage that the administrators of the database cannot change. `checkpoints` in `data_directory` is always written too."),
		scalar("stdout", &c.Stdout, boolean, "Writes each checkpoint to standard output too.", fallback("false")),
		list("urls", &c.URLs, endpoint, 0, 16, "Endpoints that each checkpoint is sent to (POST, `text/plain`); a 2xx response acknowledges the checkpoint; after any other result the server retries."),
		scalar("token_file", &c.Token, secretFile, "A bearer token for the `urls`. The file may change while the server runs."),
	}
}

func egressFields(e *Egress) []field {
	return []field{
		list[netip.AddrPort]("resolvers", &e.Resolvers, resolver, 0, 16, "DNS servers. Absent or empty: the system's."),
		list[netip.Prefix]("allow_networks", &e.AllowNetworks, network, 0, 1000, "Exceptions to the ranges that are always refused (private, loopback, link-local, metadata and others), and to the addresses of this machine's interfaces."),
		list[netip.Prefix]("deny_networks", &e.DenyNetworks, network, 0, 1000, "Networks that are refused in addition, even if `allow_networks` contains them."),
		scalar("connect_timeout", &e.ConnectTimeout, between(duration, 100*time.Millisecond, 2*time.Minute), "The maximum duration of one connection attempt to a target.", fallback("10s")),
		sections("upstream_proxies", &e.UpstreamProxies, upstreamProxyFields, "Upstream HTTP proxies. For each target Sallyport uses the first entry whose `hosts` match and whose `except` does not. If no entry matches, it connects directly. Environment variables do not add an entry."),
		section("tunnel", &e.Tunnel, tunnelFields, "Limits of an open tunnel."),
	}
}

func upstreamProxyFields(v *UpstreamProxy) []field {
	return []field{
		scalar("proxy", &v.Proxy, proxyURL, "The address of the proxy: `http://` or `https://`, a host and a port. The proxy may be in a private network, and no step can use it as a target. Sallyport sends it a CONNECT for every target, including those of `http://` requests.", required),
		list[destination.Pattern]("hosts", &v.Hosts, hostPattern, 1, 1000, "The hosts to which the entry applies: names, IP addresses, and `*.example.com` for all names below a name. Absent: every host."),
		list[destination.Pattern]("except", &v.Except, hostPattern, 0, 1000, "Hosts to which the entry does not apply, even if `hosts` match."),
		scalar("dns", &v.DNS, choice(DNSLocal, DNSUpstream), "Where the target's name is resolved. `local`: this server resolves the name, checks the addresses and requests one of them from the proxy. `upstream`: the proxy receives the name and resolves it. The address is then unknown to this server, so the proxy must refuse private and metadata addresses.",
			fallback(DNSLocal)),
		scalar("credential_file", &v.Credential, secretFile, "A file with `user:password` for the proxy. The file is read for each connection, and may change while the server runs."),
		scalar("ca_file", &v.CAFile, existingFile, "The certificate authorities for the certificate of an `https://` proxy, in PEM. Absent: the system's."),
	}
}

func tunnelFields(t *Tunnel) []field {
	return []field{
		scalar("idle_timeout", &t.IdleTimeout, between(duration, time.Second, 24*time.Hour), "A tunnel without data in either direction for this time is closed.", fallback("10m")),
		scalar("max_lifetime", &t.MaxLifetime, between(duration, time.Second, 7*24*time.Hour), "The maximum lifetime of a tunnel.", fallback("2h")),
		scalar("hello_timeout", &t.HelloTimeout, between(duration, 100*time.Millisecond, time.Minute), "How long a client may take to send the TLS ClientHello of a tunnel.", fallback("5s")),
	}
}

func limitsFields(l *Limits) []field {
	return []field{
		scalar("max_header_bytes", &l.MaxHeaderBytes, between(size, 20<<10, 1<<20), "The maximum size of a request head. It contains the credential, so the value must be at least 20KiB.", fallback("64KiB")),
		scalar("read_header_timeout", &l.ReadHeaderTimeout, between(duration, 100*time.Millisecond, 5*time.Minute), "How long a client may take to send a request head.", fallback("10s")),
		scalar("max_connections", &l.MaxConnections, between(count, 10, 10_000_000), "The maximum number of open client connections, tunnels included; further connections get 503 `overloaded`. At most half of them may be idle (without a request). Beyond that, the address with the most idle connections loses its oldest.", fallback("20000")),
		scalar("max_idle_connections_per_client", &l.MaxIdlePerClient, between(count, 1, 10_000_000), "Connections of one address (of IPv6, one /64) that may be idle (without a request) at once; beyond that the oldest is closed.", fallback("1000")),
		scalar("queue_timeout", &l.QueueTimeout, between(duration, 0, time.Minute), "How long a request over its rate waits before it is refused. The same limit applies to the wait for a lookup, and to the wait for a dial. `0s`: no wait.", fallback("5s")),
		scalar("recorded_refusals_per_second", &l.RecordedRefusalsPerSecond, between(count, 1, 1000), "The maximum number of recorded refusals per second of one step, for refusals that no other limit bounds. These are refusals by an emergency stop, a name or token that cannot be checked, or a limit that is reached. It also applies to one client address whose credentials are not accepted. The steps of one repository together may have four times as many. Further refusals are counted, and answered after a second.", fallback("5")),
		scalar("repeats_interval", &l.RepeatsInterval, between(duration, time.Second, time.Hour), "How often the counts of repeated refusals are recorded. A killed process loses the counts of one interval.", fallback("1m")),
		section("step", &l.Step, limitFields(defaultLimits{"500", "200", "200", "4MiB", "32", "125"}), "The limits of one step; a request beyond them gets 429 `step_limit`."),
		section("repository", &l.Repository, limitFields(defaultLimits{"4000", "1000", "1000", "16MiB", "64", "250"}), "The limits of all steps of one repository together; a request beyond them gets 429 `repository_limit`."),
		section("total", &l.Total, limitFields(defaultLimits{"16000", "0", "4000", "64MiB", "256", "1000"}), "The limits of all steps together; a request beyond them gets 503 `instance_limit` or `overloaded`. A step's share must not exceed its repository's share, and a repository's share must not exceed the total. A default that would exceed the configured value above it is lowered to half of that value."),
	}
}

type defaultLimits struct{ tunnels, requests, queued, header, lookups, dials string }

func limitFields(or defaultLimits) func(*Limit) []field {
	return func(l *Limit) []field {
		return []field{
			scalar("tunnels", &l.Tunnels, count, "Open tunnels and requests in progress; 0: no limit.", fallback(or.tunnels)),
			scalar("requests_per_second", &l.RequestsPerSecond, count, "CONNECTs and requests per second, including refused ones. A tenth of them, and at least ten, may arrive at once; excess requests wait up to `limits.queue_timeout`. 0: no limit.", fallback(or.requests)),
			scalar("max_queued_requests", &l.QueuedRequests, count, "Waiting requests, counted separately for the rate, lookups and dials. 0: none may wait.", fallback(or.queued)),
			scalar("max_pending_header_bytes", &l.PendingHeaderBytes, between(size, 1<<20, 1<<30), "Bytes of the heads (request line and fields) of requests in progress.", fallback(or.header)),
			scalar("max_concurrent_lookups", &l.Lookups, between(count, 1, 1_000_000), "Concurrent name lookups.", fallback(or.lookups)),
			scalar("max_concurrent_dials", &l.Dials, between(count, 1, 1_000_000), "Concurrent connection attempts to targets.", fallback(or.dials)),
		}
	}
}

func shutdownFields(s *Shutdown) []field {
	return []field{
		scalar("drain_timeout", &s.DrainTimeout, between(duration, 0, 24*time.Hour), "How long open tunnels may continue after the server received SIGTERM.", fallback("30s")),
	}
}

func logFields(l *Log) []field {
	return []field{
		scalar("format", &l.Format, choice(FormatJSON, FormatText), "`json` or `text`.", fallback(FormatJSON)),
		scalar("level", &l.Level, logLevel, "`debug`, `info`, `warn` or `error`.", fallback("info")),
	}
}
