// Package identity has the types of clients and their credentials.
//
// It holds the words only: a [Credential] is what a client presents, a
// [Principal] is the verified step behind it, and an [Error] is why a
// credential did not become a principal. Verification itself lives in the
// folders named after the technology that does it.
package identity

import "time"

// KindBitbucketStep is the [Principal] kind of a step of Bitbucket Pipelines.
const KindBitbucketStep = "bitbucket_step"

// How a principal's credential was accepted: the audit log's credential_kind.
const (
	// CredentialOIDC is a token whose signature and times were checked.
	CredentialOIDC = "oidc"
	// CredentialAdmitted is a token that was admitted while it was valid and is
	// accepted after its end, by its digest, for the same step.
	CredentialAdmitted = "admitted"
)

// Principal is a verified step: the client. Every UUID in it is bare and
// lower-case; every name is the name at the moment of the decision, or empty
// where no names are known. A Principal is immutable once it has been handed
// out, and is therefore safe for concurrent use.
type Principal struct {
	Kind       string
	Issuer     string // the iss claim, exactly as configured
	Workspace  Workspace
	Repository Repository
	Deployment *Deployment // nil when the step deploys nothing
	Pipeline   Run
	Step       Run
	Branch     string // empty for a run that has no branch

	CredentialKind   string    // one of the Credential… constants
	CredentialDigest [32]byte  // SHA-256 of the token: never the token
	Expires          time.Time // when the credential ends
}

// Workspace is a Bitbucket workspace.
type Workspace struct {
	UUID string
	Slug string
}

// Repository is a Bitbucket repository.
type Repository struct {
	UUID     string
	FullName string // workspace slug, a slash, repository slug
	Project  string // the project's key
}

// Deployment is the deployment environment that a step deploys to.
type Deployment struct {
	UUID string
	Name string // as people wrote it: Production EU
	Slug string // as in URLs: production-eu
	Type string // test, staging or production
}

// Run is something that runs: a pipeline or a step of one.
type Run struct {
	UUID string
}
