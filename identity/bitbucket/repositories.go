package bitbucket

// RepositoryUUID returns the repository that has a full name now, as far as is known:
// it sends no request. known is false if no workspace has an API, too.
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
