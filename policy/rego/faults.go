package rego

import "sync"

// faults are the repositories whose cached check was accepted and whose policy fails.
type faults struct {
	mu           sync.Mutex
	repositories map[string]bool
}

// note sets whether the policy of a repository fails.
func (f *faults) note(repository string, is bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !is {
		delete(f.repositories, repository)
		return
	}
	if f.repositories == nil {
		f.repositories = map[string]bool{}
	}
	f.repositories[repository] = true
}
