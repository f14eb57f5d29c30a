// Package config reads Sallyport's configuration: one YAML file, decoded strictly.
//
// Strict means that nothing in the file is passed over in silence. An unknown key, a key given twice, a value of the
// wrong type, a path that leads nowhere, a feature that this version does not have: each is an [Error] with its
// position, and all of them are reported at once, so that a file is repaired in one go. Secrets are named by file or
// environment variable and never stand in the file itself.
//
// The schema (schema_keys.go) is the only place that knows the keys; decoding, defaults, the search for the nearest
// known key and the reference page docs/configuration.md all come from it.
package config

import (
	"log/slog"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/destination"
)

// Config is a configuration that was accepted: every default is filled in, every path is absolute, every rule of
// this package holds. It is made by [Load] and [Parse] only and is not changed afterwards, so it may be read by any
// number of goroutines.
type Config struct {
	Listeners []Listener
	Admin     Admin
	Identity  Identity
	Policy    Policy
	Audit     Audit
	Egress    Egress
	Webhooks  *Webhooks // nil: no deliveries are received
	Limits    Limits
	SelfTest  SelfTest
	Shutdown  Shutdown
	Log       Log
	// DataDirectory is where the server keeps its own state. It may not exist yet; if it exists, it is a directory.
	DataDirectory string
	// StepBinaries is the directory of the builds of sallyport-step; "": none are offered. It may not exist yet.
	StepBinaries string

	warnings []Warning
}

// Warnings returns the warnings that did not keep the configuration from being accepted, sorted by position. The
// slice belongs to the caller.
func (c *Config) Warnings() []Warning { return slices.Clone(c.warnings) }

// Listener is one address on which steps reach the proxy.
type Listener struct {
	// Address is IP:port or :port, for net.Listen("tcp", …). Port 0 takes any free port.
	Address string
	// Plaintext is the operator's word that this listener may receive bearer tokens without TLS off loopback.
	Plaintext bool
	// TLS is nil on a plain listener.
	TLS *TLS
	// ProxyProtocolFrom are the networks whose connections begin with a PROXY protocol header. All are masked.
	ProxyProtocolFrom []netip.Prefix
}

// TLS names the certificate of a listener. Both files existed and matched when the configuration was read.
type TLS struct {
	CertificateFile string
	KeyFile         string
}

// Admin is the read-only listener for health and metrics.
type Admin struct {
	// Address is IP:port or :port; it is on loopback unless AllowNonLoopback.
	Address          string
	AllowNonLoopback bool
}

// Identity configures the accepted tokens.
type Identity struct {
	// Bitbucket has at least one element; no two share a workspace, a workspace UUID or an issuer.
	Bitbucket []Bitbucket
	// Leeway is the clock difference allowed when a token's times are checked; it may be 0.
	Leeway time.Duration
	// NameLookupTimeout bounds how long a decision waits for a name that is not cached.
	NameLookupTimeout time.Duration
	// MaxLifetime bounds a token's life, from iat to exp.
	MaxLifetime time.Duration
	// JWKSMaxAge is how long an issuer's keys are used if they cannot be fetched again; NameCacheMaxAge is the same for a name.
	JWKSMaxAge, NameCacheMaxAge time.Duration
	// ExpiredTokenGracePeriod is how long after its first admission an expired token is accepted; 0: not at all.
	ExpiredTokenGracePeriod time.Duration
	// OnExpiry is [ExpiryKeep] or [ExpiryClose]; ExpiryGrace counts from the token's end and means nothing with the former.
	OnExpiry    string
	ExpiryGrace time.Duration
}

// The effect on an open tunnel when the token that opened it ends (`identity.on_expiry`).
const (
	ExpiryKeep  = "keep"
	ExpiryClose = "close"
)

// Bitbucket is one Bitbucket workspace and the issuer of its steps' tokens.
type Bitbucket struct {
	// Workspace is the slug.
	Workspace string
	// WorkspaceUUID is bare and lower-case.
	WorkspaceUUID string
	// Issuer is the exact text that a token's iss must have, as in the file.
	Issuer string
	// Audiences are the exact texts of which a token's aud must hold one: 1 to 10, each of 1 to 150 characters.
	Audiences []string
	// API is nil where no REST API is configured: then principals have UUIDs only.
	API *API
}

// API is Bitbucket's REST API.
type API struct {
	URL *url.URL
	// Token is the access token; it may be rotated while the server runs, so read it when it is used.
	Token Secret
}

// Policy is the source of the policy. Exactly one of Directory and Git is set.
type Policy struct {
	// Directory existed when the configuration was read.
	Directory string
	Git       *Git
	// EvaluationTimeout bounds the evaluation of one decision; past it the answer is deny.
	EvaluationTimeout time.Duration
	// DecisionCache bounds the decisions that are kept for reuse, in bytes; 0: none are.
	DecisionCache int
	Workers       PolicyWorkers
	// Candidate is nil where none is evaluated.
	Candidate *Candidate
	Approvals Approvals
	// RepositoryFailure is [RepositoryKeepPrevious] or [RepositoryDeny].
	RepositoryFailure string
	// ExceptionExpiryWarning is how long before an exception ends it is announced.
	ExceptionExpiryWarning time.Duration
	// MaxAge is how long a revision stays in force after its source last offered it; 0: without a limit.
	MaxAge time.Duration
}

// PolicyWorkers bounds the processes that execute what repositories wrote.
type PolicyWorkers struct {
	// Processes is how many there are at most; 0: two for each processor, and at least six.
	Processes int
	// MaxMemory is what one may have beyond what it has at its start, in bytes.
	MaxMemory int
	// MaxQueued is how many evaluations of one repository may wait.
	MaxQueued int
	// QueueTimeout is how long one may wait.
	QueueTimeout time.Duration
}

// Approvals configures the reading of the approvals of the policy repository's pull requests.
type Approvals struct {
	Enabled bool
	// Repository is workspace/name in Bitbucket; empty: the repository of [Policy].Git's URL, if its host is bitbucket.org.
	Repository string
	// Deadline is how long after an activation Bitbucket is asked.
	Deadline time.Duration
}

// BitbucketRepository is the workspace's slug and the name of the repository that approvals are read of; ok is false
// where policy is not in one that is known.
func (p *Policy) BitbucketRepository() (workspace, name string, ok bool) {
	full := p.Approvals.Repository
	if full == "" && p.Git != nil && p.Git.URL != nil && strings.EqualFold(p.Git.URL.Hostname(), "bitbucket.org") {
		full = strings.TrimSuffix(strings.Trim(p.Git.URL.Path, "/"), ".git")
	}
	workspace, name, ok = strings.Cut(strings.ToLower(full), "/")
	return workspace, name, ok && p.Git != nil && slugForm.MatchString(workspace) && repositoryForm.MatchString(name)
}

// The effect on a repository whose policy fails, while the revision is activated.
const (
	RepositoryKeepPrevious = "keep_previous" // its rules of the latest revision in which they passed stay in force
	RepositoryDeny         = "deny"          // everything is denied
)

// Candidate is a policy that is evaluated beside the one that decides. Exactly one of its fields is set.
type Candidate struct {
	Directory string
	// Branch is one of the repository of [Policy].Git, which is set then.
	Branch string
}

// Git is a policy repository that is polled.
type Git struct {
	URL *url.URL
	// Branch or Tag is set, and the other one is empty.
	Branch string
	Tag    string
	// Path is the folder of the policy inside the repository, slash-separated, "." for its root.
	Path         string
	PollInterval time.Duration
	// Credentials is the zero Secret where the repository needs none. User goes with it.
	Credentials Secret
	User        string
	// CAFile holds more authorities for https; empty: the system's alone.
	CAFile string
	// SSHKeyFile and KnownHostsFile are both set for ssh, and empty otherwise.
	SSHKeyFile     string
	KnownHostsFile string
	// AllowedSignersFile is empty where commits need not be signed.
	AllowedSignersFile string
	// NonFastForward is [NonFastForwardReject] or [NonFastForwardAllow].
	NonFastForward string
}

// The values of policy.git.non_fast_forward, for a commit that does not descend from the active one.
const (
	NonFastForwardReject = "reject" // the active revision stays in force
	NonFastForwardAllow  = "allow"  // the commit is activated, and the event records it
)

// Audit configures the log. Either Embedded is true, or Database and Migration are set.
type Audit struct {
	// Database is the connection string with which the server records.
	Database Secret
	// Sealer is the connection string with which the server seals. The zero Secret: that of Database.
	Sealer Secret
	// Migration is the connection string for `sallyport migrate`. Its file may be unreadable for the server, which
	// does not need it.
	Migration Secret
	Embedded  bool
	// SigningKey is the zero Secret where the first instance generates a key by itself.
	SigningKey Secret
	// OnOutage is [OutageDeny] or [OutageSpool].
	OnOutage string
	// MaxJournalBytes and JournalMaxAge bound the journal.
	MaxJournalBytes int
	JournalMaxAge   time.Duration
	Checkpoints     Checkpoints
	Reconciliation  Reconciliation
}

// Reconciliation configures the comparison of Bitbucket's deployments with the log, for workspaces with an API.
type Reconciliation struct {
	Enabled bool
	// Interval is from the beginning of one to the beginning of the next, whichever instance makes it.
	Interval time.Duration
	// Lookback is how long ago a deployment may have begun, GracePeriod how long after its end it may be missing in the log.
	Lookback, GracePeriod time.Duration
	// RequestsPerHour is of each workspace's API.
	RequestsPerHour int
}

// SelfTest configures the self-test; an Interval of 0 disables it.
type SelfTest struct {
	Interval time.Duration
}

// Checkpoints configures the interval of sealing, and the places of signed checkpoints besides data_directory.
type Checkpoints struct {
	Interval time.Duration
	// Files are absolute paths; a file need not exist.
	Files  []string
	Stdout bool
	// URLs are https, or http on a loopback address.
	URLs []string
	// Token is the zero Secret where the URLs need none.
	Token Secret
}

// The effect on an allow while the database is unavailable (`audit.on_outage`).
const (
	OutageDeny  = "deny"  // it is refused
	OutageSpool = "spool" // the local journal backs it
)

// Egress is the way out.
type Egress struct {
	// Resolvers are the DNS servers; empty means the system's.
	Resolvers []netip.AddrPort
	// AllowNetworks are exceptions to the ranges that are always refused, DenyNetworks are refused in addition. All
	// are masked.
	AllowNetworks []netip.Prefix
	DenyNetworks  []netip.Prefix
	// ConnectTimeout bounds one connection attempt to a target.
	ConnectTimeout time.Duration
	// UpstreamProxies are other HTTP proxies on the way out. The first whose Hosts match and whose Except do not is used; where
	// there is none, the way is direct.
	UpstreamProxies []UpstreamProxy
	Tunnel          Tunnel
}

// UpstreamProxy is another HTTP proxy, through which the way to some hosts leads.
type UpstreamProxy struct {
	// Proxy has the scheme http or https, a canonical host and a port, and nothing else.
	Proxy *url.URL
	// Hosts is empty where it is for every host.
	Hosts  []destination.Pattern
	Except []destination.Pattern
	// DNS is [DNSLocal] or [DNSUpstream].
	DNS string
	// Credential is "user:password", or the zero Secret. It may be rotated while the server runs.
	Credential Secret
	// CAFile holds the certificates that an https proxy's is checked with; empty: the system's.
	CAFile string
}

// Who looks up the target's name where the way leads through another proxy (`egress.upstream_proxies[].dns`).
const (
	DNSLocal    = "local"
	DNSUpstream = "upstream"
)

// Tunnel bounds an open CONNECT.
type Tunnel struct {
	IdleTimeout time.Duration
	MaxLifetime time.Duration
	// HelloTimeout is how long a tunnel may take to show its TLS ClientHello.
	HelloTimeout time.Duration
}

// Limits bounds what a client may make the listeners do before it is known, and what verified steps may take.
type Limits struct {
	// MaxHeaderBytes is the greatest size of a request head, in bytes.
	MaxHeaderBytes int
	// ReadHeaderTimeout is how long a client may take to send a request head.
	ReadHeaderTimeout time.Duration
	// MaxConnections is how many clients may be connected at once, tunnels included, and MaxIdlePerClient how many
	// connections of one address may be without a request.
	MaxConnections   int
	MaxIdlePerClient int
	// QueueTimeout bounds how long a request waits for each of: its rate, a lookup, a dial. 0: it does not wait.
	QueueTimeout time.Duration
	// RecordedRefusalsPerSecond bounds the events of one step that no other limit bounds, and RepeatsInterval is how
	// often counts of repeated refusals are recorded.
	RecordedRefusalsPerSecond int
	RepeatsInterval           time.Duration
	// Step, Repository and Total are for one step, for the steps of one repository, and for all. No share is above the
	// one that contains it.
	Step       Limit
	Repository Limit
	Total      Limit
}

// Limit bounds one level of the limits; 0 tunnels or requests are not a limit.
type Limit struct {
	Tunnels           int
	RequestsPerSecond int
	// QueuedRequests is how many requests may wait for their rate, and again for lookups and for dials.
	QueuedRequests int
	// PendingHeaderBytes bounds the request heads of the requests under way, in bytes.
	PendingHeaderBytes int
	Lookups            int
	Dials              int
}

// Shutdown configures the end of the server.
type Shutdown struct {
	// DrainTimeout is how long open tunnels may continue after the server began to end; 0 closes them at once.
	DrainTimeout time.Duration
}

// Log configures the server's own log.
type Log struct {
	// Format is [FormatJSON] or [FormatText].
	Format string
	Level  slog.Level
}

// How log lines look (`log.format`).
const (
	FormatJSON = "json"
	FormatText = "text"
)
