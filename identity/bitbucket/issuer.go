package bitbucket

import "sync/atomic"

// issuer is one workspace with its keys and names.
type issuer struct {
	workspace Workspace
	url       string
	keys      *keySet
	names     *names // nil: UUIDs only
	// mistake is what the API found wrong with the workspace's configuration; nil: nothing.
	mistake atomic.Pointer[error]
}
