package rego

import (
	"sync"

	"github.com/sallyport/sallyport/policy/rego/check"
	"github.com/sallyport/sallyport/policy/rego/document"
)

// places are where the values of the documents stand. They are read again when the
// first finding asks, for few policies have one, and forgotten after the loading.
type places struct {
	found check.Cache

	mu   sync.Mutex
	root *document.Node
}

func (p *places) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.root = nil
}
