package e2e

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// zone is the name server of a space, for UDP and TCP on one port. What a name
// answers may depend on how often it was asked.
type zone struct {
	address string
	names   map[string]func(n int, tcp bool) dnsAnswer
	other   dnsAnswer // for all other names below .example

	mu      sync.Mutex
	count   map[string]int // by name and type, since the last call of since
	queried []string       // since the last call of since
}

// dnsAnswer is a zone's answer to a query.
type dnsAnswer struct {
	addrs  []string
	alias  string // and what the alias is at, in addrs
	ttl    uint32
	code   dnsmessage.RCode
	cut    bool              // truncated
	silent bool              // no answer at all
	more   map[string]string // records that were not queried
}

func startZone(t testing.TB) *zone {
	t.Helper()
	z := &zone{names: make(map[string]func(int, bool) dnsAnswer), count: make(map[string]int)}
	var conn net.PacketConn
	var l net.Listener
	var err error
	for range 20 { // one port that is free for both
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if conn, err = net.ListenPacket("udp", l.Addr().String()); err == nil {
			break
		}
		_ = l.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	z.address = l.Addr().String()
	var all sync.WaitGroup
	all.Go(func() { z.serveUDP(conn) })
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			z.serveTCP(c)
		}
	})
	t.Cleanup(func() {
		_, _ = conn.Close(), l.Close()
		all.Wait()
	})
	return z
}

// at makes a name answer the same every time.
func (z *zone) at(name string, s dnsAnswer) {
	z.names[name] = func(int, bool) dnsAnswer { return s }
}

// since returns the names that were queried since the last call.
func (z *zone) since() []string {
	z.mu.Lock()
	defer z.mu.Unlock()
	names := z.queried
	z.queried = nil
	clear(z.count)
	slices.Sort(names)
	return slices.Compact(names)
}

func (z *zone) serveUDP(conn net.PacketConn) {
	buf := make([]byte, 4096)
	for {
		n, from, err := conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		if answer := z.respond(buf[:n], false); answer != nil {
			_, _ = conn.WriteTo(answer, from)
		}
	}
}

func (z *zone) serveTCP(c net.Conn) {
	defer c.Close()
	var length [2]byte
	if _, err := io.ReadFull(c, length[:]); err != nil {
		return
	}
	query := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(c, query); err != nil {
		return
	}
	if answer := z.respond(query, true); answer != nil {
		_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
	}
}

func (z *zone) respond(query []byte, tcp bool) []byte {
	var p dnsmessage.Parser
	head, err := p.Start(query)
	if err != nil {
		return nil
	}
	question, err := p.Question()
	if err != nil {
		return nil
	}
	name := strings.ToLower(strings.TrimSuffix(question.Name.String(), "."))
	z.mu.Lock()
	z.queried = append(z.queried, name)
	key := question.Type.String() + name
	n := z.count[key]
	z.count[key]++
	z.mu.Unlock()
	s := z.other
	if f := z.names[name]; f != nil {
		s = f(n, tcp)
	} else if !strings.HasSuffix(name, ".example") {
		s = dnsAnswer{code: dnsmessage.RCodeNameError}
	}
	if s.silent {
		return nil
	}
	return s.pack(head, question)
}

func (s *dnsAnswer) pack(head dnsmessage.Header, question dnsmessage.Question) []byte {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{
		ID: head.ID, Response: true, RecursionDesired: true, RecursionAvailable: true, RCode: s.code, Truncated: s.cut,
	})
	errs := []error{b.StartQuestions(), b.Question(question), b.StartAnswers()}
	owner := question.Name
	if s.alias != "" {
		alias := dnsmessage.MustNewName(s.alias + ".")
		errs = append(errs, b.CNAMEResource(dnsmessage.ResourceHeader{Name: owner, Class: dnsmessage.ClassINET, TTL: s.ttl}, dnsmessage.CNAMEResource{CNAME: alias}))
		owner = alias
	}
	add := func(owner dnsmessage.Name, text string) {
		addr := netip.MustParseAddr(text)
		h := dnsmessage.ResourceHeader{Name: owner, Class: dnsmessage.ClassINET, TTL: s.ttl}
		switch {
		case addr.Is4() && question.Type == dnsmessage.TypeA:
			errs = append(errs, b.AResource(h, dnsmessage.AResource{A: addr.As4()}))
		case addr.Is6() && question.Type == dnsmessage.TypeAAAA:
			errs = append(errs, b.AAAAResource(h, dnsmessage.AAAAResource{AAAA: addr.As16()}))
		}
	}
	for _, text := range s.addrs {
		add(owner, text)
	}
	for name, text := range s.more {
		add(dnsmessage.MustNewName(name+"."), text)
	}
	message, err := b.Finish()
	if errors.Join(append(errs, err)...) != nil {
		return nil
	}
	return message
}
