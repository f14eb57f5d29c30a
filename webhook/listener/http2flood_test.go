package listener

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sallyport/sallyport/internal/proxytest"
)

// h2attacker is a connection that sends frames of HTTP/2 without the care of a client.
type h2attacker struct {
	*http2.Framer
	conn *tls.Conn
	out  *bufio.Writer
}

func (e *listenerEnv) attacker(t *testing.T, address int) *h2attacker {
	t.Helper()
	client := e.client.Clone()
	client.NextProtos = []string{"h2"}
	saved := e.client
	e.client = client
	conn := e.dial(t, proxyHeader(address))
	e.client = saved
	if err := conn.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewWriterSize(conn, 32<<10)
	_, _ = io.WriteString(out, http2.ClientPreface)
	a := &h2attacker{http2.NewFramer(out, conn), conn, out}
	if err := a.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return a
}

// drain reads what the server sends, until it closes the connection.
func (a *h2attacker) drain() { _, _ = io.Copy(io.Discard, a.conn) }

// request is the header block of a POST request.
func requestBlock(path string) []byte {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":authority", "hooks.example"}, {":path", path}, {"content-type", "application/json"}} {
		_ = encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	return block.Bytes()
}

// An attack writes frames until the server closes the connection, or until it has sent as many
// as it may. rounds bounds the frames.
type attack struct {
	run    func(a *h2attacker, rounds int) error
	rounds int
	closed bool // the server has to close the connection
}

const streamBody = 600 // bytes of a body that does not end

var attacks = map[string]attack{
	// CVE-2023-44487: each stream is canceled at once.
	"rapid reset": {run: func(a *h2attacker, rounds int) error {
		for i := range rounds {
			id := uint32(2*i + 1)
			if err := a.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: requestBlock("/slow"), EndHeaders: true}); err != nil {
				return err
			}
			if err := a.WriteRSTStream(id, http2.ErrCodeCancel); err != nil {
				return err
			}
		}
		return a.out.Flush()
	}, rounds: 5_000},
	// CVE-2023-45288: a header block that does not end.
	"continuation": {run: func(a *h2attacker, rounds int) error {
		if err := a.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: requestBlock("/slow")}); err != nil {
			return err
		}
		var block bytes.Buffer
		encoder := hpack.NewEncoder(&block)
		_ = encoder.WriteField(hpack.HeaderField{Name: "x-filler", Value: string(bytes.Repeat([]byte("a"), 4000)), Sensitive: true})
		for range rounds {
			if err := a.WriteContinuation(1, false, block.Bytes()); err != nil {
				return err
			}
		}
		return a.out.Flush()
	}, rounds: 10_000, closed: true},
	// CVE-2019-9515: each frame requires a response. The server keeps one
	// response at a time.
	"settings": {run: func(a *h2attacker, rounds int) error {
		for range rounds {
			if err := a.WriteSettings(); err != nil {
				return err
			}
		}
		return a.out.Flush()
	}, rounds: 10_000},
	// CVE-2019-9512: the same, and each response is one more.
	"ping": {run: func(a *h2attacker, rounds int) error {
		for range rounds {
			if err := a.WritePing(false, [8]byte{}); err != nil {
				return err
			}
		}
		return a.out.Flush()
	}, rounds: 10_000},
	// Many streams, each with the beginning of a body.
	"slow bodies": {run: func(a *h2attacker, rounds int) error {
		for i := range rounds {
			id := uint32(2*i + 1)
			if err := a.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: requestBlock("/slow"), EndHeaders: true}); err != nil {
				return err
			}
			if i < maxStreams {
				if err := a.WriteData(id, false, make([]byte, streamBody)); err != nil {
					return err
				}
			}
		}
		return a.out.Flush()
	}, rounds: 10 * maxStreams},
	// CVE-2019-9517: the server may send nothing, and requests continue.
	"closed window": {run: func(a *h2attacker, rounds int) error {
		if err := a.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}); err != nil {
			return err
		}
		for i := range rounds {
			if err := a.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: requestBlock("/hooks/policy"), EndHeaders: true, EndStream: true}); err != nil {
				return err
			}
		}
		return a.out.Flush()
	}, rounds: 10 * maxStreams},
}

const (
	attackers  = 10
	maxGrowth  = 64 << 20 // bytes of the heap, attackers' side included
	deliveries = 20       // of the other sender, during the attack
)

// floodedServer reads bodies as a receiver does, and counts the requests at the same time.
func floodedServer(t *testing.T, prepare ...func(*Server)) (e *listenerEnv, most *atomic.Int32) {
	t.Helper()
	var now atomic.Int32
	most = new(atomic.Int32)
	e = newListenerEnv(t, func(c *Config, _ *http.Server) {
		c.ProxyProtocolFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		c.Handlers["/slow"] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for n := now.Add(1); ; {
				if seen := most.Load(); n <= seen || most.CompareAndSwap(seen, n) {
					break
				}
			}
			defer now.Add(-1)
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(4 * time.Second))
			_, _ = io.Copy(io.Discard, r.Body)
		})
	}, prepare...)
	return e, most
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

// TestHTTP2Floods: known attacks on HTTP/2 end with the connection, or run in bounded memory and
// with a bounded number of requests at the same time, while another sender is answered over new
// connections.
func TestHTTP2Floods(t *testing.T) { // not parallel: it measures the heap
	for name, c := range attacks {
		t.Run(name, func(t *testing.T) {
			e, most := floodedServer(t)
			before := heapInUse()
			var wg sync.WaitGroup
			begun := make(chan struct{}, attackers)
			for i := range attackers {
				a := e.attacker(t, i)
				go a.drain()
				wg.Go(func() {
					begun <- struct{}{}
					_ = c.run(a, c.rounds) // an error: the server has closed the connection
				})
			}
			<-begun
			for i := range deliveries {
				if _, err := over(e.dial(t, proxyHeader(100+i)), "/hooks/policy"); err != nil {
					t.Fatalf("another sender is not answered: %v", err)
				}
			}
			wg.Wait()
			if grown := int64(heapInUse()) - int64(before); grown > maxGrowth {
				t.Errorf("the heap has grown by %d bytes", grown)
			}
			if n := most.Load(); n > attackers*maxStreams {
				t.Errorf("%d requests at the same time", n)
			}
			if c.closed {
				proxytest.Eventually(t, "the attackers' connections are closed", func() bool { return e.Stats().Connections <= deliveries })
			}
		})
	}
}

// TestStreamLimitIsNeeded: without the limit of streams, a connection has more requests at the
// same time.
func TestStreamLimitIsNeeded(t *testing.T) {
	t.Parallel()
	e, most := floodedServer(t, func(s *Server) { s.http.HTTP2.MaxConcurrentStreams = 1000 })
	a := e.attacker(t, 1)
	go a.drain()
	if err := attacks["slow bodies"].run(a, 10*maxStreams); err != nil {
		t.Fatal(err)
	}
	proxytest.Eventually(t, "more requests at the same time", func() bool { return most.Load() > maxStreams })
}
