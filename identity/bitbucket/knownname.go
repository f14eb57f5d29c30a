package bitbucket

import (
	"time"

	"github.com/sallyport/sallyport/identity"
)

// nameID identifies a name, which one UUID has at a time.
func nameID(n identity.KnownName) string {
	if n.Kind == identity.NameOfDeployment {
		return n.RepositoryUUID + "\x00" + n.Name
	}
	return n.FullName
}

func shownName(n identity.KnownName) string {
	if n.Kind == identity.NameOfDeployment {
		return n.Name
	}
	return n.FullName
}

func sameName(a, b identity.KnownName) bool {
	a.FetchedAt, b.FetchedAt = time.Time{}, time.Time{}
	return a == b
}
