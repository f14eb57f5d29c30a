package upstream

import (
	"context"
	"slices"
	"sync"
	"time"
)

// pool opens connections and keeps some ready, so that a new tunnel costs no handshake. It
// keeps as many as were used within the latest maxAge, at least one and at most max;
// without such a demand the pool becomes empty. Each ready connection has a reader: the
// reader receives TLS session tickets, and removes a connection that the server closes.
//
// A request that finds no ready connection waits for the next one that is opened: one that
// is in progress is finished earlier than a new one.
type pool struct {
	ctx    context.Context
	dial   func(context.Context) (*conn, error)
	usable func(*proxy) bool // reports whether a proxy's connections are to be used now
	max    int
	maxAge time.Duration

	mu      sync.Mutex
	ready   []*readyConn    // the oldest first
	waiters []chan<- dialed // the oldest first; each has a place for one result
	dialing int
	demand  []time.Time // when connections were used, within maxAge; at most max
	later   *time.Timer // of refillLater; nil: none
	closed  bool
	dials   sync.WaitGroup
}

// dialed is the result of opening a connection.
type dialed struct {
	conn *conn
	err  error
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

// get returns a connection on which nothing has been sent: a ready one that is alive, or
// the next one that is opened. Call refillLater after its use has begun.
func (p *pool) get(ctx context.Context) (*conn, error) {
	for {
		r, result := p.pop()
		if r == nil {
			return p.wait(ctx, result)
		}
		if c := r.stop(); c != nil {
			return c, nil
		}
	}
}

// pop removes the newest ready connection. If there is none, it returns a channel that
// receives the next connection that is opened.
func (p *pool) pop() (*readyConn, chan dialed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.ready) > 0 {
		last := len(p.ready) - 1
		r := p.ready[last]
		p.ready = p.ready[:last]
		r.expiry.Stop()
		if time.Since(r.since) < p.maxAge && p.usable(r.proxy) {
			p.note()
			return r, nil
		}
		_ = r.Close()
	}
	p.note()
	result := make(chan dialed, 1)
	if p.closed {
		result <- dialed{nil, context.Canceled}
		return nil, result
	}
	p.waiters = append(p.waiters, result)
	if p.dialing < len(p.waiters) {
		p.open()
	}
	return nil, result
}

// wait returns the result of a dial. If ctx ends first, the connection becomes ready for
// another request.
func (p *pool) wait(ctx context.Context, result chan dialed) (*conn, error) {
	select {
	case d := <-result:
		return d.conn, d.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiters = slices.DeleteFunc(p.waiters, func(w chan<- dialed) bool { return w == result })
	select {
	case d := <-result: // it had been sent before
		if d.err == nil {
			p.keep(d.conn)
		}
	default:
	}
	return nil, context.Cause(ctx)
}

// note records a demand. p.mu is held.
func (p *pool) note() {
	p.demand = append(p.demand, time.Now())
	if len(p.demand) > p.max {
		p.demand = p.demand[len(p.demand)-p.max:]
	}
}

// refill opens connections in the background, up to the present demand, unless requests
// are waiting for connections.
func (p *pool) refill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.max == 0 || len(p.waiters) > 0 {
		return
	}
	recent := 0
	for _, at := range p.demand {
		if time.Since(at) < p.maxAge {
			recent++
		}
	}
	for want := max(recent, 1); len(p.ready)+p.dialing < want; {
		p.open()
	}
}

// refillDelay is the time from the use of a connection to the opening of the next one.
const refillDelay = 3 * time.Millisecond

// refillLater is refill after refillDelay. Until then, the tool receives its response and
// sends its first bytes: a handshake at this time would delay both.
func (p *pool) refillLater() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.later != nil || p.closed {
		return
	}
	p.later = time.AfterFunc(refillDelay, func() {
		p.mu.Lock()
		p.later = nil
		p.mu.Unlock()
		p.refill()
	})
}

// open opens one connection in the background. p.mu is held.
func (p *pool) open() {
	p.dialing++
	p.dials.Go(func() {
		c, err := p.dial(p.ctx)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.dialing--
		switch {
		case len(p.waiters) > 0:
			p.waiters[0] <- dialed{c, err}
			p.waiters = p.waiters[1:]
		case err == nil:
			p.keep(c)
		}
		// A failure without a waiting request is left to the next request, which reports it.
	})
}

// keep makes a connection ready. p.mu is held.
func (p *pool) keep(c *conn) {
	if p.closed || len(p.ready) >= p.max {
		_ = c.Close()
		return
	}
	r := &readyConn{conn: c, since: time.Now(), ended: make(chan struct{})}
	r.expiry = time.AfterFunc(p.maxAge, func() { p.remove(r) })
	p.ready = append(p.ready, r)
	p.dials.Go(func() { r.read(p) })
}

// remove closes a connection that has ended or is too old.
func (p *pool) remove(r *readyConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.ready, r); i >= 0 {
		p.ready = slices.Delete(p.ready, i, i+1)
		r.expiry.Stop()
		_ = r.Close()
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
	if p.later != nil {
		p.later.Stop()
	}
	p.mu.Unlock()
	p.dials.Wait()
}
