package goproxy

import (
	"fmt"
	"net/http"
	"reflect"
	"runtime"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/proxytest"
)

const shortGET = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// remembered is how many hosts a transport has an entry for that it keeps when
// nothing uses it any more.
func remembered(t *testing.T, transport *http.Transport) int {
	t.Helper()
	field := reflect.ValueOf(transport).Elem().FieldByName("idleConnWait")
	if !field.IsValid() {
		t.Fatal("net/http has changed: look again what its transport keeps")
	}
	return field.Len()
}

// invented sends requests to so many new hosts, on which no server listens.
func (s *env) invented(t *testing.T, token string, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		s.as(t, token, nil, "GET", fmt.Sprintf("http://invented-%d.test:1/", i), nil, "")
	}
	s.gate.Wait()
}

func (p *pools) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.repositories)
}

// TestInventedHosts: what a repository makes the forwarder remember is bounded,
// and forgotten once the repository is quiet.
func TestInventedHosts(t *testing.T) {
	s := start(t, Config{IdleTimeout: 20 * time.Millisecond})
	lease := s.forwarder.pools.begin(s.admit(t, "kept", "http://kept.test/").Principal) // a request under way
	for round := range 3 {
		s.invented(t, "kept", 1000*round, 1000*(round+1))
		s.forwarder.pools.mu.Lock()
		transport := lease.pool.transport
		s.forwarder.pools.mu.Unlock()
		if n := remembered(t, transport); n > maxDials {
			t.Errorf("the transport remembers %d hosts", n)
		}
	}
	lease.end()
	proxytest.Eventually(t, "the repository is forgotten", func() bool { return s.forwarder.pools.len() == 0 })
}

// TestInventedHostsMemory: the heap is no larger afterwards. TestReplacementIsNeeded
// shows what one transport for all keeps.
func TestInventedHostsMemory(t *testing.T) {
	s := start(t, Config{IdleTimeout: 20 * time.Millisecond})
	flood := func(round int) {
		s.invented(t, fmt.Sprint("flood-", round), 5000*round, 5000*(round+1))
		proxytest.Eventually(t, "the repository is forgotten", func() bool { return s.forwarder.pools.len() == 0 })
		s.mu.Lock()
		s.events = nil
		s.mu.Unlock()
	}
	flood(0)
	before := heap()
	flood(1)
	proxytest.Eventually(t, "the memory of 5,000 hosts returns", func() bool { return heap() <= before+512<<10 })
}

func TestReplacementIsNeeded(t *testing.T) {
	s := start(t, Config{})
	one := s.forwarder.config.transport(1)
	s.forwarder.pools.transport = func(int) *http.Transport { return one }
	s.invented(t, "flood", 0, 3000)
	if n := remembered(t, one); n != 3000 {
		t.Errorf("one transport remembers %d hosts", n)
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestIdleShares: a repository that leaves as many kept connections as it can
// closes none of another's, and all together keep no more than may be.
func TestIdleShares(t *testing.T) {
	up := serve(t, func(int, *http.Request) (string, bool) { return shortGET, false })
	s := start(t, Config{MaxIdle: 8, IdleTimeout: time.Minute})
	get := func(token, host string) {
		t.Helper()
		if w := s.as(t, token, nil, "GET", "http://"+host+":"+up.Port+"/", nil, ""); w.status != 200 {
			t.Fatalf("%s: %+v", host, w.refusal)
		}
	}
	get("victim/1", "up.test")
	for i := range 50 {
		get("flood/1", fmt.Sprintf("f%d.test", i))
	}
	before := up.Accepted()
	get("victim/1", "up.test")
	if up.Accepted() != before {
		t.Error("another repository's connections pushed out the victim's")
	}
	for i := range 40 {
		get(fmt.Sprintf("r%d/1", i), "up.test")
	}
	proxytest.Eventually(t, "the connections that are too many are closed", func() bool {
		s.forwarder.pools.mu.Lock()
		defer s.forwarder.pools.mu.Unlock()
		return s.forwarder.pools.open <= 8
	})
	s.forwarder.Close()
	proxytest.Eventually(t, "all connections are closed", func() bool {
		s.forwarder.pools.mu.Lock()
		defer s.forwarder.pools.mu.Unlock()
		return s.forwarder.pools.open == 0 && s.forwarder.pools.busy == 0
	})
}
