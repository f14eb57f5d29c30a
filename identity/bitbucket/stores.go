package bitbucket

import (
	"context"

	"github.com/sallyport/sallyport/identity"
)

// NameStore keeps names over a restart. It is told of every answer of the REST
// API, also of one that says nothing new, so that it can tell how long a name
// was valid; it must be safe for concurrent use and bound its own time. An
// error is logged and costs nothing but the memory of a restart.
type NameStore interface {
	// LoadNames returns the latest name of everything that is known of a
	// workspace, in any order.
	LoadNames(ctx context.Context, workspaceUUID string) ([]identity.KnownName, error)
	// SaveName keeps a name as it was at its time FetchedAt.
	SaveName(ctx context.Context, name identity.KnownName) error
}

// AdmittedStore keeps the digests of tokens that were admitted while they were
// valid, for every instance and over a restart. It must be safe for concurrent
// use.
type AdmittedStore interface {
	// Admit keeps that the token behind the principal was verified and is valid
	// now; the first time that any instance says so counts. It is called for every
	// request, so it must not block and costs a memory read where that is known
	// already. What it cannot keep ends when the token does.
	Admit(p *identity.Principal)
	// Admitted returns the principal of a token that was admitted while it was
	// valid and may still be accepted, with its end in Expires; found is false
	// where there is none. It must bound its own time. An error means that nothing
	// could be found out.
	Admitted(ctx context.Context, digest [32]byte, stepUUID string) (p *identity.Principal, found bool, err error)
}

// Revocations says who is not to be admitted although the token is good. It is
// asked for every request, so it answers from memory and never blocks, and it
// must be safe for concurrent use. UUIDs are bare and lower-case.
type Revocations interface {
	Revoked(stepUUID, repositoryUUID string) bool
}
