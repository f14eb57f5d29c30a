package bitbuckettest

import (
	"context"
	"crypto"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/cgi"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/bitbuckettest/hook"
)

// Server is the emulated Bitbucket. It is an [http.Handler] and can serve by
// itself (Start, StartInMemory).
type Server struct {
	now     func() time.Time
	network network // has its own lock

	mu          sync.Mutex // guards all below, and the whole model
	random      io.Reader
	workspaces  []*Workspace
	tokens      map[string]accessToken
	hideScopes  bool
	rsaKeys     []*Key // to give back to the pool
	closed      bool
	barePages   bool
	deployments Deployments
	journal     journal
	injections  []*Injection
	hookRoots   *x509.CertPool
	senders     []*hook.Sender // of all webhooks, deleted ones too
	numbers     int64          // of repositories, as Data Center counts them
}

// network is how the server is reached: a TCP listener or pipes in memory. It can be
// stopped and started again at the same address.
type network struct {
	mu        sync.Mutex
	scheme    string
	host      string // what clients see; set by the first Start unless given
	authority *authority

	address   string // of the last TCP listener, for Start after Stop
	server    *http.Server
	cancel    context.CancelFunc
	served    chan struct{}
	memory    *memoryListener
	transport *http.Transport
}

// Workspace is an issuer and owns repositories.
type Workspace struct {
	UUID string

	server       *Server
	created      time.Time
	slug         string
	disabled     bool // no OpenID Connect
	keys         []*Key
	key          *Key
	projects     map[string]string // key -> UUID
	repositories []*Repository
	creator      string // UUID of who starts pipelines
	hooks        []*subscription
}

// accessToken is a workspace access token.
type accessToken struct {
	workspace *Workspace
	scopes    []string
}

// Key signs tokens. A workspace publishes its own ones; others are strangers
// until [Workspace.Publish].
type Key struct {
	ID        string // the kid
	Algorithm string // its natural one: RS256, ES256 or EdDSA

	mu       sync.Mutex
	private  crypto.Signer // made when it is first needed
	released bool
}

// Repository has environments and pipelines.
type Repository struct {
	UUID string

	server       *Server
	created      time.Time
	workspace    *Workspace
	name         string
	project      string // key
	environments []*Environment
	pipelines    []*Pipeline
	pulls        []*Pull
	links        CommitLinks
	builds       int
	number       int64 // Data Center's id
	hooks        []*subscription
	reports      map[string]*Report // by commit and id
	git          *gitRepository     // nil: none is served
}

// subscription is a webhook of a repository or workspace.
type subscription struct {
	*hook.Sender
	description string
	created     time.Time
	active      bool
}

// gitRepository is a bare Git repository that the server serves over HTTP.
type gitRepository struct {
	mu        sync.Mutex // one push at a time
	directory string
	backend   *cgi.Handler
}

// CommitLinks is how a repository answers which pull requests a commit belongs to.
// The zero value answers.
type CommitLinks struct {
	NoApp    bool // 404: the workspace does not have the app that indexes them
	Indexing bool // 202 without a body: the index is being made
}

// Deployments is how lists of deployments answer where Bitbucket's behavior is
// not documented. The zero value is what public clients rely on: newest start
// first with sort=-state.started_on, and the step in the answer.
type Deployments struct {
	IgnoreSort bool // the list is in the order of creation, whatever was asked for
	RefuseSort bool // 400 for sort
	NoStep     bool // neither step nor the live names of times: what the OpenAPI document has, and no more
	NoPipeline bool // nor the pipeline
}

// EnvironmentType is the type of a deployment environment.
type EnvironmentType string

// The three types that Bitbucket has, in its spelling.
const (
	Test       EnvironmentType = "Test"
	Staging    EnvironmentType = "Staging"
	Production EnvironmentType = "Production"
)

var environmentTypes = []EnvironmentType{Test, Staging, Production} // the index is the rank

// Environment is a deployment environment of one repository.
type Environment struct {
	UUID       string
	Repository *Repository
	Type       EnvironmentType

	server *Server
	name   string
}

// Pipeline is one run.
type Pipeline struct {
	UUID        string
	Repository  *Repository
	BuildNumber int    // counts up from 1 in each repository
	Branch      string // empty for the run of a tag
	Tag         string // empty for the run of a branch
	Commit      string // 40 hexadecimal digits

	server  *Server
	created time.Time
	end     *end
	steps   []*Step
}

// Step is one step of a pipeline; it is in progress from its start until
// Complete.
type Step struct {
	UUID        string
	Pipeline    *Pipeline
	Environment *Environment // nil when the step deploys nothing

	server  *Server
	created time.Time
	started time.Time // zero: it waits, or never ran
	end     *end
}

// end is when and how a pipeline or a step ended.
type end struct {
	time   time.Time
	result string
}

// Account is a person of Bitbucket. Several may have one name.
type Account struct {
	UUID string
	Name string
}

// Pull is a pull request. Its fields are for its maker to set before the server is
// asked; the methods may be called at any time.
type Pull struct {
	ID          int
	Title       string
	Author      *Account // nil: the account is gone
	Destination string   // branch
	Source      string   // the head of the source branch, 40 hexadecimal digits
	// Commits are those of the pull request and who wrote each; nil: an address that
	// belongs to no account.
	Commits []PullCommit

	server   *Server
	updated  time.Time
	state    string
	merge    string
	closedBy *Account
	reviews  []review
}

// PullCommit is a commit of a pull request.
type PullCommit struct {
	Hash   string
	Author *Account
}

// review is a participant's review; state is "approved", "changes_requested" or empty.
type review struct {
	account Account
	state   string
	at      time.Time
}

// Request is one request as it arrived.
type Request struct {
	Endpoint      Endpoint
	Method        string
	URI           string // path and query, as sent
	Authorization string // the header, as sent
	Time          time.Time
}

// journal remembers what arrived and lets others wait for it. The server's mu
// guards it.
type journal struct {
	requests []Request
	counts   [32]int
	active   int
	changed  chan struct{} // closed and replaced at every change
}

// Fault is a fault of responses. Its parts combine; the zero value
// changes nothing. The functions of this file make the usual ones.
type Fault struct {
	Match func(*http.Request) bool // nil: every request of the endpoint
	After int                      // so many matching requests pass first
	Times int                      // so many are hit, and the rest pass; 0: all

	Hang  bool // nothing is sent until the fault is cleared; then the answer is, unless the client has gone
	Reset bool // the connection is reset without an answer

	Status   int         // instead of the true answer, with Bitbucket's error body
	Redirect string      // 302 (or Status) with this Location
	Header   http.Header // added to the answer

	Body     []byte              // instead of the answer's body
	Edit     func([]byte) []byte // changes the answer's body
	Padding  int                 // so many spaces after the body: too long, and valid JSON still
	Truncate bool                // the announced length, half the body, and the connection closed
	Stall    bool                // half the body, and the rest when the fault is cleared
}

// Injection is a fault in force.
type Injection struct {
	server   *Server
	endpoint Endpoint
	fault    Fault
	released chan struct{}

	matched, hits int  // the server's mu guards them
	cleared       bool // and this
}
