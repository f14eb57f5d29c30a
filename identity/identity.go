// Package identity has the types of clients and their credentials.
//
// A client presents a [Credential]. A [Principal] is the step that a verified credential
// identifies. An [Error] is the reason why a credential was not accepted. The code that
// verifies credentials is in the folders named after its technology.
package identity

import "time"

// KindBitbucketStep is the [Principal] kind of a step of Bitbucket Pipelines.
const KindBitbucketStep = "bitbucket_step"

// How a principal's credential was accepted: the values of credential_kind in the audit log.
const (
	// CredentialOIDC is a token whose signature and times were checked.
	CredentialOIDC = "oidc"
	// CredentialAdmitted is an expired token that was admitted while it was valid. It is
	// recognized by its digest, and accepted for the same step.
	CredentialAdmitted = "admitted"
)

// Principal is a verified step: the client. UUIDs are lower-case and have no braces. Names
// are those at the time of the decision, or empty if the workspace has no API. A Principal
// is immutable once it has been returned, and therefore safe for concurrent use.
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
	CredentialDigest [32]byte  // SHA-256 of the token; the token itself is not stored
	Expires          time.Time // when the credential expires
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
	Name string // the display name: Production EU
	Slug string // the name in URLs: production-eu
	Type string // test, staging or production
}

// Run identifies one run of a pipeline, or of a step.
type Run struct {
	UUID string
}
