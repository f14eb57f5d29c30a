package bitbucket

import (
	"context"

	"github.com/sallyport/sallyport/identity"
)

// NameStore keeps names over a restart. It receives every response of the REST API,
// also one that changes nothing, so that it knows how long a name was valid. It must be
// safe for concurrent use and bound its own time. An error is logged; its only effect
// is that the name does not survive a restart.
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
	// Admit stores that the principal's token was verified and is valid now; the first
	// report of any instance counts. Each request calls it, so it must not block, and it
	// costs a memory read if the token is stored already. A token that it cannot store
	// is accepted until it expires.
	Admit(p *identity.Principal)
	// Admitted returns the principal of a token that was admitted while it was
	// valid and may still be accepted, with its end in Expires; found is false
	// where there is none. It must bound its own time. An error means that nothing
	// could be found out.
	Admitted(ctx context.Context, digest [32]byte, stepUUID string) (p *identity.Principal, found bool, err error)
}

// Revocations are the steps and repositories whose valid tokens are refused. It is
// asked for every request, so it answers from memory and never blocks, and it
// must be safe for concurrent use. UUIDs are bare and lower-case.
type Revocations interface {
	Revoked(stepUUID, repositoryUUID string) bool
}
