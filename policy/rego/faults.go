package rego

import "sync"

// faults are the repositories that were cached to pass and do not.
type faults struct {
	mu           sync.Mutex
	repositories map[string]bool
}

// note says of a repository whether it is one.
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
