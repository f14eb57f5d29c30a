package goproxy

import (
	"net/http"
	"sync"
	"time"

	"github.com/sallyport/sallyport/identity"
)

// pools keeps connections to targets for a next request, one [http.Transport] for each
// repository that has requests in progress or had some recently.
//
// A transport remembers every host that a request had to dial for, and forgets it
// only when a connection to that host becomes idle (net/http's idleConnWait, as of
// Go 1.26): a step that names ten thousand hosts makes it grow for good. So a
// transport is replaced after so many dials, and dropped when its repository is
// quiet. A repository closes kept connections of its own only.
type pools struct {
	transport func(maxIdle int) *http.Transport
	maxIdle   int           // connections that are kept, in all
	quiet     time.Duration // after which a repository without requests is forgotten

	mu           sync.Mutex
	repositories map[repository]*pool
	open, busy   int // connections, and requests under way
	sweeping     bool
}

// repository identifies the repository whose connections are kept together.
type repository struct{ issuer, uuid string }

// pool is the connections of one repository.
type pool struct {
	transport  *http.Transport
	dials      int // since the transport was made
	open, busy int
	used       time.Time // when its last request ended
}

const (
	// maxDials is after how many dials a transport is replaced: it remembers some
	// 700 bytes for each.
	maxDials = 1024
	// idleShare is which part of the kept connections one repository may have.
	idleShare = 4
)

// poolLease is one request's use of its repository's pool.
type poolLease struct {
	pools     *pools
	pool      *pool
	transport *http.Transport // it stays the request's, though the pool's is replaced
}

// begin finds the pool of a principal's repository, for one request.
func (p *pools) begin(principal *identity.Principal) poolLease {
	key := repository{}
	if principal != nil {
		key = repository{principal.Issuer, principal.Repository.UUID}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	own := p.repositories[key]
	if own == nil {
		own = &pool{transport: p.transport(max(1, p.maxIdle/idleShare))}
		p.repositories[key] = own
	}
	own.busy++
	p.busy++
	return poolLease{p, own, own.transport}
}

// end ends the use. Where more connections are kept than may be, those of the
// repository that has most are closed.
func (l poolLease) end() {
	p := l.pools
	p.mu.Lock()
	l.pool.busy--
	p.busy--
	l.pool.used = time.Now()
	var over *http.Transport
	if p.open-p.busy > p.maxIdle {
		over = p.largest().transport
	}
	if !p.sweeping {
		p.sweeping = true
		time.AfterFunc(p.quiet, p.sweep)
	}
	p.mu.Unlock()
	if over != nil {
		over.CloseIdleConnections() // without the lock, which closing a connection takes
	}
}

func (p *pools) largest() *pool {
	var most *pool
	for _, own := range p.repositories {
		if most == nil || own.open-own.busy > most.open-most.busy {
			most = own
		}
	}
	return most
}

// dialing counts an attempt to connect, and replaces a transport that remembers
// many hosts. Requests under way keep the old one, whose connections close behind
// them.
func (l poolLease) dialing() {
	p := l.pools
	p.mu.Lock()
	old := l.pool.transport
	l.pool.dials++
	full := l.pool.dials >= maxDials
	if full {
		l.pool.transport, l.pool.dials = p.transport(max(1, p.maxIdle/idleShare)), 0
	}
	p.mu.Unlock()
	if full {
		old.CloseIdleConnections()
	}
}

// dialed counts a connection.
func (l poolLease) dialed() {
	l.pools.mu.Lock()
	defer l.pools.mu.Unlock()
	l.pools.open++
	l.pool.open++
}

// closed counts a connection that is closed, or that belongs to the tracker from now on.
func (l poolLease) closed() {
	l.pools.mu.Lock()
	defer l.pools.mu.Unlock()
	l.pools.open--
	l.pool.open--
}

// sweep removes repositories without requests, and is called again while there are
// others.
func (p *pools) sweep() {
	var removed []*http.Transport
	p.mu.Lock()
	now := time.Now()
	for key, own := range p.repositories {
		if own.busy == 0 && now.Sub(own.used) >= p.quiet {
			removed = append(removed, own.transport)
			delete(p.repositories, key)
		}
	}
	if len(p.repositories) == 0 {
		p.repositories = make(map[repository]*pool) // a map keeps its size
	}
	if p.sweeping = len(p.repositories) > 0; p.sweeping {
		time.AfterFunc(p.quiet, p.sweep)
	}
	p.mu.Unlock()
	for _, t := range removed {
		t.CloseIdleConnections()
	}
}

// close closes every connection that is kept.
func (p *pools) close() {
	var all []*http.Transport
	p.mu.Lock()
	for _, own := range p.repositories {
		all = append(all, own.transport)
	}
	p.mu.Unlock()
	for _, t := range all {
		t.CloseIdleConnections()
	}
}
