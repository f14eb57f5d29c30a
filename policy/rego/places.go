package rego

import (
	"sync"

	"github.com/sallyport/sallyport/policy/rego/check"
	"github.com/sallyport/sallyport/policy/rego/document"
)

// places are the positions of the values of the documents. They are read again for the
// first finding, because few policies have one, and dropped after the loading.
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
