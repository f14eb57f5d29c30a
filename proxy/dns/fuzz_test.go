package dns

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/sallyport/sallyport/internal/destination"
)

// FuzzReadAnswer holds that no message makes the reader panic or return more
// than it promises, and that every address it returns stands in a record whose
// owner the question leads to.
func FuzzReadAnswer(f *testing.F) {
	for _, texts := range [][]string{
		{"api.example. 60 A 192.0.2.1", "api.example. 60 AAAA 2001:db8::1"},
		{"api.example. 60 CNAME b.example.", "b.example. 5 A 192.0.2.1", "b.example. 5 AAAA 2001:db8::1", "c.example. 5 A 192.0.2.66"},
		{"api.example. 60 CNAME api.example."},
		{},
	} {
		m := new(mdns.Msg).SetQuestion("api.example.", mdns.TypeA)
		m.Response, m.RecursionAvailable = true, true
		for _, text := range texts {
			m.Answer = append(m.Answer, record(f, text))
		}
		m.Ns = append(m.Ns, record(f, "example. 60 SOA ns.example. x.example. 1 2 3 4 5"))
		wire, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire, false)
	}
	f.Fuzz(func(t *testing.T, wire []byte, six bool) {
		var id uint16
		if len(wire) >= 2 { // a fuzzer cannot guess it, and should not have to
			id = binary.BigEndian.Uint16(wire)
		}
		q := question{name: "api.example.", qtype: mdns.TypeA}
		if six {
			q.qtype = mdns.TypeAAAA
		}
		got, err := readAnswer(wire, id, q)
		if err != nil {
			if _, ok := errors.AsType[*failure](err); !ok && !errors.Is(err, errForeign) && !errors.Is(err, errTruncated) {
				t.Fatalf("error %v (%T)", err, err)
			}
			if got.addrs != nil || got.missing {
				t.Fatalf("%+v with error %v", got, err)
			}
			return
		}
		if got.ttl < 0 || got.ttl > (1<<32)*time.Second || len(got.addrs) > addressMax || got.missing && got.addrs != nil {
			t.Fatalf("%+v", got)
		}
		if _, err := readAnswer(wire, id+1, q); !errors.Is(err, errForeign) {
			t.Fatalf("another id: %v", err)
		}
		reached := reachable(t, wire, q.name)
		for _, addr := range got.addrs {
			if !addr.IsValid() || addr.Is6() != six || addr.Is4In6() || addr.Zone() != "" || !reached[addr] {
				t.Fatalf("address %v (of the other family, or nobody's)", addr)
			}
		}
	})
}

// reachable collects, with a plain search, every address of a name that the
// aliases of a message connect with the question.
func reachable(t *testing.T, wire []byte, name string) map[netip.Addr]bool {
	t.Helper()
	var m mdns.Msg
	if err := m.Unpack(wire); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{name: true}
	for range m.Answer {
		for _, rr := range m.Answer {
			if cname, ok := rr.(*mdns.CNAME); ok && names[strings.ToLower(cname.Hdr.Name)] {
				names[strings.ToLower(cname.Target)] = true
			}
		}
	}
	found := map[netip.Addr]bool{}
	for _, rr := range m.Answer {
		if !names[strings.ToLower(rr.Header().Name)] {
			continue
		}
		switch rr := rr.(type) {
		case *mdns.A:
			addr, _ := netip.AddrFromSlice(rr.A.To4())
			found[addr] = true
		case *mdns.AAAA:
			addr, _ := netip.AddrFromSlice(rr.AAAA)
			found[addr] = true
		}
	}
	return found
}

// FuzzParseHosts holds that whatever stands in a hosts file, only canonical
// names and bounded lists of plain addresses come out.
func FuzzParseHosts(f *testing.F) {
	f.Add("127.0.0.1 localhost\n::1 localhost ip6-localhost # c\n::ffff:192.0.2.1 a.example")
	f.Fuzz(func(t *testing.T, text string) {
		for name, list := range parseHosts(text) {
			if host, addr, err := destination.ParseHost(name); err != nil || host != name || addr.IsValid() {
				t.Fatalf("name %q", name)
			}
			if len(list) == 0 || len(list) > 2*addressMax {
				t.Fatalf("%d addresses", len(list))
			}
			for i, addr := range list {
				if addr.Is4In6() || addr.Zone() != "" || i > 0 && addr.Is4() && list[i-1].Is6() {
					t.Fatalf("%v", list)
				}
			}
		}
	})
}
