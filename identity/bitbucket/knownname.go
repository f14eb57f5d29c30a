package bitbucket

import (
	"time"

	"github.com/sallyport/sallyport/identity"
)

// says is what must be borne by one UUID only at a time.
func says(n identity.KnownName) string {
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

// RepositoryUUID returns the repository that bears a full name now, as far as is
// known: it asks nobody. known is false where no workspace has an API, too.
func (a *Authenticator) RepositoryUUID(fullName string) (uuid string, known bool) {
	for _, i := range a.list {
		if i.names == nil {
			continue
		}
		if k, found := i.names.bearer(fullName); found {
			return k.repository, true
		}
	}
	return "", false
}

func (n *names) bearer(fullName string) (nameKey, bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	k, found := n.owners[fullName]
	return k, found && k.deployment == ""
}

// RepositoryName returns what a repository is called now, as far as is known;
// empty where it is not.
func (a *Authenticator) RepositoryName(uuid string) string {
	for _, i := range a.list {
		if i.names == nil {
			continue
		}
		i.names.mu.RLock()
		e := i.names.known[nameKey{repository: uuid}]
		i.names.mu.RUnlock()
		if e != nil && !e.name.FetchedAt.IsZero() {
			return e.name.FullName
		}
	}
	return ""
}
