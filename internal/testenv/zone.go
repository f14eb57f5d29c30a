package testenv

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	"golang.org/x/net/dns/dnsmessage"
)

// Names in the zone whose addresses must never be dialled. At LoopbackHost's a
// test can listen, to see that nothing comes: it is another than the one that
// the configuration makes an exception for.
const (
	PrivateHost  = "intranet.partner.example"
	LoopbackHost = "loopback.partner.example"
)

// SilentSuffix is what names end with that the name server does not answer.
const SilentSuffix = ".silent.example"

// elsewhere are the names that are not at 127.0.0.1.
var elsewhere = map[string][4]byte{
	PrivateHost:  {10, 0, 0, 1},
	LoopbackHost: {127, 0, 0, 2},
}

var errSilent = errors.New("no answer to this name")

// zone is a name server for the demo's names: everything below .example is at
// 127.0.0.1, but for what stands in elsewhere and for names that end with
// SilentSuffix, and nothing else exists (RFC 1035; .example is reserved by RFC 2606).
type zone struct {
	address string
	conn    net.PacketConn
	done    chan struct{}

	mu      sync.Mutex
	queries map[string]int
}

// Queries returns how often the name server was queried for a name, without a trailing
// dot and in lower case: a test shows with it that a name was not looked up.
func (s *Env) Queries(name string) int {
	s.zone.mu.Lock()
	defer s.zone.mu.Unlock()
	return s.zone.queries[name]
}

func startZone() (*zone, error) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	z := &zone{address: conn.LocalAddr().String(), conn: conn, done: make(chan struct{}), queries: make(map[string]int)}
	go z.serve()
	return z, nil
}

func (z *zone) close() {
	_ = z.conn.Close()
	<-z.done
}

func (z *zone) serve() {
	defer close(z.done)
	buf := make([]byte, 4096)
	for {
		n, from, err := z.conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		if answer, err := z.answerTo(buf[:n]); err == nil {
			_, _ = z.conn.WriteTo(answer, from)
		}
	}
}

func (z *zone) answerTo(query []byte) ([]byte, error) {
	var p dnsmessage.Parser
	head, err := p.Start(query)
	if err != nil {
		return nil, err
	}
	question, err := p.Question()
	if err != nil {
		return nil, err
	}
	name := strings.ToLower(strings.TrimSuffix(question.Name.String(), "."))
	z.mu.Lock()
	z.queries[name]++
	z.mu.Unlock()
	if strings.HasSuffix(name, SilentSuffix) {
		return nil, errSilent
	}
	known := strings.HasSuffix(name, ".example")
	answer := dnsmessage.Header{ID: head.ID, Response: true, Authoritative: true, RecursionDesired: head.RecursionDesired, RecursionAvailable: true}
	if !known {
		answer.RCode = dnsmessage.RCodeNameError
	}
	b := dnsmessage.NewBuilder(nil, answer)
	if err := errors.Join(b.StartQuestions(), b.Question(question), b.StartAnswers()); err != nil {
		return nil, fmt.Errorf("build answer: %w", err)
	}
	if known && question.Type == dnsmessage.TypeA {
		address, moved := elsewhere[name]
		if !moved {
			address = [4]byte{127, 0, 0, 1}
		}
		record := dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, TTL: 60}
		if err := b.AResource(record, dnsmessage.AResource{A: address}); err != nil {
			return nil, err
		}
	}
	return b.Finish()
}
