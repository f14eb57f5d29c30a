package upstream

import (
	"context"
	"sync"
	"time"
)

// pool keeps connections ready, so that a new tunnel costs no handshake. It holds as many
// as were used within the latest maxAge, at least one and at most max; without such a
// demand the pool becomes empty. Each connection has a reader: the reader receives TLS
// session tickets, and removes a connection that the server closes.
type pool struct {
	ctx    context.Context
	dial   func(context.Context) (*conn, error)
	usable func(*proxy) bool // reports whether a proxy's connections are to be used now
	max    int
	maxAge time.Duration

	mu      sync.Mutex
	ready   []*readyConn // the oldest first
	dialing int
	demand  []time.Time // when connections were used, within maxAge; at most max
	closed  bool
	refills sync.WaitGroup
}

// readyConn is a connection in the pool.
type readyConn struct {
	*conn
	since  time.Time
	expiry *time.Timer
	ended  chan struct{} // closed at the end of the reader
	alive  bool          // after ended: the reader was interrupted and nothing had come
}

func newPool(ctx context.Context, maximum int, maxAge time.Duration, dial func(context.Context) (*conn, error), usable func(*proxy) bool) *pool {
	return &pool{ctx: ctx, dial: dial, usable: usable, max: max(maximum, 0), maxAge: maxAge}
}

// take returns a ready connection that is alive, or nil, and starts to replace it.
func (p *pool) take() *conn {
	p.note()
	defer p.refill()
	for {
		r := p.pop()
		if r == nil {
			return nil
		}
		r.expiry.Stop()
		if c := r.stop(); c != nil {
			return c
		}
	}
}

// note records a demand.
func (p *pool) note() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.demand = append(p.demand, time.Now())
	if len(p.demand) > p.max {
		p.demand = p.demand[len(p.demand)-p.max:]
	}
}

// pop removes the newest connection.
func (p *pool) pop() *readyConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.ready) > 0 {
		last := len(p.ready) - 1
		r := p.ready[last]
		p.ready = p.ready[:last]
		if time.Since(r.since) < p.maxAge && p.usable(r.proxy) {
			return r
		}
		r.expiry.Stop()
		_ = r.Close()
	}
	return nil
}

// refill opens connections in the background, up to the present demand.
func (p *pool) refill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.max == 0 {
		return
	}
	recent := 0
	for _, at := range p.demand {
		if time.Since(at) < p.maxAge {
			recent++
		}
	}
	for want := max(recent, 1); len(p.ready)+p.dialing < want; {
		p.dialing++
		p.refills.Go(p.add)
	}
}

// add opens one connection. A failure is left to the next request, which reports it.
func (p *pool) add() {
	c, err := p.dial(p.ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialing--
	if err != nil {
		return
	}
	if p.closed {
		_ = c.Close()
		return
	}
	r := &readyConn{conn: c, since: time.Now(), ended: make(chan struct{})}
	r.expiry = time.AfterFunc(p.maxAge, func() { p.remove(r) })
	p.ready = append(p.ready, r)
	p.refills.Go(func() { r.read(p) })
}

// remove closes a connection that has ended or is too old.
func (p *pool) remove(r *readyConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, other := range p.ready {
		if other == r {
			p.ready = append(p.ready[:i], p.ready[i+1:]...)
			r.expiry.Stop()
			_ = r.Close()
			return
		}
	}
}

// past is a deadline that interrupts a read at once.
var past = time.Unix(1, 0)

// read waits for what comes on an unused connection: session tickets, which TLS handles
// itself, and then nothing. A byte or an end means that the connection is of no use.
func (r *readyConn) read(p *pool) {
	n, err := r.Read(make([]byte, 1))
	r.alive = n == 0 && isTimeout(err)
	close(r.ended)
	if !r.alive {
		p.remove(r)
	}
}

// stop ends the reader of a connection that left the pool, and returns the connection if it
// is alive.
func (r *readyConn) stop() *conn {
	_ = r.SetReadDeadline(past)
	<-r.ended
	if !r.alive || r.SetReadDeadline(time.Time{}) != nil {
		_ = r.Close()
		return nil
	}
	return r.conn
}

// close closes all ready connections and waits for the pool's goroutines.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	for _, r := range p.ready {
		r.expiry.Stop()
		_ = r.Close()
	}
	p.ready = nil
	p.mu.Unlock()
	p.refills.Wait()
}
