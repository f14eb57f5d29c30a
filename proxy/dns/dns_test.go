package dns

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/sallyport/sallyport/internal/fair"
)

func TestResolve(t *testing.T) {
	for _, test := range []struct {
		why     string
		records []string
		want    []netip.Addr
		kind    Kind
	}{
		{"both families", []string{"api.example. 60 A 192.0.2.1", "api.example. 60 A 192.0.2.2", "api.example. 60 AAAA 2001:db8::1"},
			addrs("192.0.2.1", "192.0.2.2", "2001:db8::1"), ""},
		{"one family", []string{"api.example. 60 AAAA 2001:db8::1"}, addrs("2001:db8::1"), ""},
		{"names have no case", []string{"API.Example. 60 A 192.0.2.1"}, addrs("192.0.2.1"), ""},
		{"aliases, in any order", []string{"b.example. 60 A 192.0.2.1", "a.example. 60 CNAME b.example.", "api.example. 60 CNAME A.example."}, addrs("192.0.2.1"), ""},
		{"the same twice", []string{"api.example. 60 A 192.0.2.1", "api.example. 60 A 192.0.2.1"}, addrs("192.0.2.1"), ""},
		{"private addresses are the caller's business", []string{"api.example. 60 A 127.0.0.1"}, addrs("127.0.0.1"), ""},
		{"RFC 4291 2.5.5.2: mapped", []string{"api.example. 60 AAAA ::ffff:192.0.2.1"}, nil, KindNoAddress},
		{"only another name's address", []string{"other.example. 60 A 192.0.2.66"}, nil, KindNoAddress},
		{"an alias that leads nowhere", []string{"api.example. 60 CNAME b.example.", "c.example. 60 A 192.0.2.66"}, nil, KindNoAddress},
		{"a loop", []string{"api.example. 60 CNAME b.example.", "b.example. 60 CNAME api.example."}, nil, KindServerFailure},
		{"RFC 2181 10.1: two aliases", []string{"api.example. 60 CNAME b.example.", "api.example. 60 CNAME c.example.", "b.example. 60 A 192.0.2.1"}, nil, KindServerFailure},
		{"another class", []string{"api.example. 60 CH A 192.0.2.66"}, nil, KindNoAddress},
	} {
		t.Run(test.why, func(t *testing.T) {
			r := resolver(t, Config{}, serve(t, records(t, test.records...)))
			got, err := r.Resolve(t.Context(), fair.Subject{}, "api.example")
			if kind := kindIn(t, err); kind != test.kind || !slices.Equal(got, test.want) {
				t.Errorf("got %v, %v; want %v, %q", got, err, test.want, test.kind)
			}
		})
	}
}

// TestNamesAreAbsolute: the name that was decided is the name that is asked for.
func TestNamesAreAbsolute(t *testing.T) {
	s := serve(t, rcode(mdns.RcodeNameError))
	if _, err := resolver(t, Config{}, s).Resolve(t.Context(), fair.Subject{}, "intranet"); kindIn(t, err) != KindNotFound {
		t.Error(err)
	}
	asked := s.questions()
	slices.Sort(asked)
	if want := []string{"udp A intranet.", "udp AAAA intranet."}; !slices.Equal(asked, want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
}

func TestInvalidHostsAreNotAsked(t *testing.T) {
	s := serve(t, records(t))
	r := resolver(t, Config{}, s)
	for _, host := range []string{"", "127.0.0.1", "::1", "API.example", "api.example.", "a b", "bücher.example", "127.1", "a\\.b"} {
		if _, err := r.Resolve(t.Context(), fair.Subject{}, host); kindIn(t, err) != KindInvalid {
			t.Errorf("%q: %v", host, err)
		}
	}
	if asked := s.questions(); len(asked) > 0 {
		t.Errorf("asked %q", asked)
	}
}

func TestBoundedAddresses(t *testing.T) {
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprintf("api.example. 60 A 192.0.2.%d", i), fmt.Sprintf("api.example. 60 AAAA 2001:db8::%d", i))
	}
	got, err := resolver(t, Config{}, serve(t, truncating(records(t, many...)))).Resolve(t.Context(), fair.Subject{}, "api.example")
	if err != nil || len(got) != 2*addressMax {
		t.Errorf("%d addresses, %v", len(got), err)
	}
}

// truncating is what a server does whose answer does not fit.
func truncating(full zone) zone {
	return func(w mdns.ResponseWriter, reply, request *mdns.Msg) {
		if w.RemoteAddr().Network() == "tcp" {
			full(w, reply, request)
			return
		}
		reply.Truncated = true
		// What little there is must not be used as the response.
		reply.Answer = []mdns.RR{&mdns.A{Hdr: mdns.RR_Header{Name: reply.Question[0].Name, Rrtype: mdns.TypeA, Class: mdns.ClassINET, Ttl: 60}, A: net.IPv4(192, 0, 2, 66)}}
		_ = w.WriteMsg(reply)
	}
}

func TestTruncatedIsAskedOverTCP(t *testing.T) {
	s := serve(t, truncating(records(t, "api.example. 60 A 192.0.2.1")))
	got, err := resolver(t, Config{}, s).Resolve(t.Context(), fair.Subject{}, "api.example")
	if err != nil || !slices.Equal(got, addrs("192.0.2.1")) {
		t.Errorf("got %v, %v", got, err)
	}
	if asked := s.questions(); !slices.Contains(asked, "tcp A api.example.") {
		t.Errorf("asked %q", asked)
	}
}

// TestForeignDatagrams sends what an attacker would, before the true answer.
func TestForeignDatagrams(t *testing.T) {
	truth := "api.example. 60 A 192.0.2.1"
	lie := func(reply *mdns.Msg) *mdns.Msg {
		spoofed := reply.Copy()
		spoofed.Answer = []mdns.RR{record(t, "api.example. 60 A 192.0.2.66")}
		return spoofed
	}
	for _, test := range []struct {
		why   string
		spoof func(w mdns.ResponseWriter, reply *mdns.Msg)
	}{
		{"RFC 5452 9.1: another id", func(w mdns.ResponseWriter, reply *mdns.Msg) {
			spoofed := lie(reply)
			spoofed.Id++
			_ = w.WriteMsg(spoofed)
		}},
		{"RFC 5452 9.1: another name", func(w mdns.ResponseWriter, reply *mdns.Msg) {
			spoofed := lie(reply)
			spoofed.Question[0].Name = "other.example."
			_ = w.WriteMsg(spoofed)
		}},
		{"RFC 5452 9.1: another type", func(w mdns.ResponseWriter, reply *mdns.Msg) {
			spoofed := lie(reply)
			spoofed.Question[0].Qtype = mdns.TypeMX
			_ = w.WriteMsg(spoofed)
		}},
		{"RFC 5452 9.1: another class", func(w mdns.ResponseWriter, reply *mdns.Msg) {
			spoofed := lie(reply)
			spoofed.Question[0].Qclass = mdns.ClassCHAOS
			_ = w.WriteMsg(spoofed)
		}},
		{"no question", func(w mdns.ResponseWriter, reply *mdns.Msg) {
			spoofed := lie(reply)
			spoofed.Question = nil
			_ = w.WriteMsg(spoofed)
		}},
		{"two questions", func(w mdns.ResponseWriter, reply *mdns.Msg) {
			spoofed := lie(reply)
			spoofed.Question = append(spoofed.Question, spoofed.Question[0])
			_ = w.WriteMsg(spoofed)
		}},
		{"a query", func(w mdns.ResponseWriter, reply *mdns.Msg) {
			spoofed := lie(reply)
			spoofed.Response = false
			_ = w.WriteMsg(spoofed)
		}},
		{"another opcode", func(w mdns.ResponseWriter, reply *mdns.Msg) {
			spoofed := lie(reply)
			spoofed.Opcode = mdns.OpcodeNotify
			_ = w.WriteMsg(spoofed)
		}},
		{"too short", func(w mdns.ResponseWriter, reply *mdns.Msg) {
			_, _ = w.Write(binary.BigEndian.AppendUint16(nil, reply.Id))
		}},
		{"RFC 5452 9.2: another peer", func(w mdns.ResponseWriter, reply *mdns.Msg) {
			wire, _ := lie(reply).Pack()
			elsewhere, err := net.ListenPacket("udp", "127.0.0.1:0")
			if err != nil {
				t.Error(err)
				return
			}
			defer elsewhere.Close()
			_, _ = elsewhere.WriteTo(wire, w.RemoteAddr())
		}},
	} {
		t.Run(test.why, func(t *testing.T) {
			honest := records(t, truth)
			r := resolver(t, Config{}, serve(t, func(w mdns.ResponseWriter, reply, request *mdns.Msg) {
				test.spoof(w, reply)
				honest(w, reply, request)
			}))
			got, err := r.Resolve(t.Context(), fair.Subject{}, "api.example")
			if err != nil || !slices.Equal(got, addrs("192.0.2.1")) {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

// TestFloodIsAskedOverTCP: an attacker who guesses ids gets few guesses.
func TestFloodIsAskedOverTCP(t *testing.T) {
	honest := records(t, "api.example. 60 A 192.0.2.1")
	s := serve(t, func(w mdns.ResponseWriter, reply, request *mdns.Msg) {
		if w.RemoteAddr().Network() == "tcp" {
			honest(w, reply, request)
			return
		}
		for range foreignMax {
			reply.Id++
			_ = w.WriteMsg(reply)
		}
	})
	got, err := resolver(t, Config{}, s).Resolve(t.Context(), fair.Subject{}, "api.example")
	if err != nil || !slices.Equal(got, addrs("192.0.2.1")) {
		t.Errorf("got %v, %v", got, err)
	}
}

// TestExtraRecordsAreIgnored shows an answer that a reader who takes every
// address in it would be fooled by.
func TestExtraRecordsAreIgnored(t *testing.T) {
	extra := record(t, "api.example. 60 A 192.0.2.66")
	poison := func(w mdns.ResponseWriter, reply, request *mdns.Msg) {
		reply.Extra = append(reply.Extra, extra)
		reply.Ns = append(reply.Ns, extra)
		records(t, "bank.example. 60 A 192.0.2.66", "api.example. 60 CNAME b.example.", "b.example. 60 A 192.0.2.1")(w, reply, request)
	}
	s := serve(t, poison)
	client := mdns.Client{}
	message, _, err := client.ExchangeContext(t.Context(), new(mdns.Msg).SetQuestion("api.example.", mdns.TypeA), s.addr)
	if err != nil {
		t.Fatal(err)
	}
	fooled := slices.ContainsFunc(message.Answer, func(rr mdns.RR) bool {
		a, ok := rr.(*mdns.A)
		return ok && a.A.String() == "192.0.2.66"
	})
	if !fooled {
		t.Fatal("the attack does not bite: the server did not send the extra record")
	}
	got, err := resolver(t, Config{}, s).Resolve(t.Context(), fair.Subject{}, "api.example")
	if err != nil || !slices.Equal(got, addrs("192.0.2.1")) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := resolver(t, Config{}, s).Resolve(t.Context(), fair.Subject{}, "nothing.example"); kindIn(t, err) != KindNoAddress {
		t.Errorf("nothing.example: %v", err)
	}
}

func TestKinds(t *testing.T) {
	for _, test := range []struct {
		why    string
		handle zone
		want   Kind
	}{
		{"NXDOMAIN", rcode(mdns.RcodeNameError), KindNotFound},
		{"NODATA", rcode(mdns.RcodeSuccess), KindNoAddress},
		{"SERVFAIL", rcode(mdns.RcodeServerFailure), KindServerFailure},
		{"NOTIMP", rcode(mdns.RcodeNotImplemented), KindServerFailure},
		{"FORMERR", rcode(mdns.RcodeFormatError), KindServerFailure},
		{"REFUSED", rcode(mdns.RcodeRefused), KindRefused},
		{"REFUSED, without the question", func(w mdns.ResponseWriter, reply, _ *mdns.Msg) {
			reply.Rcode, reply.Question = mdns.RcodeRefused, nil
			_ = w.WriteMsg(reply)
		}, KindRefused},
		{"silence", silent, KindTimeout},
		{"no recursion", func(w mdns.ResponseWriter, reply, _ *mdns.Msg) {
			reply.RecursionAvailable = false
			_ = w.WriteMsg(reply)
		}, KindServerFailure},
		{"garbage behind the question", func(w mdns.ResponseWriter, reply, _ *mdns.Msg) {
			wire, _ := reply.Pack()
			binary.BigEndian.PutUint16(wire[6:], 1)
			_, _ = w.Write(append(wire, 0xc0, 0xff, 1, 2, 3))
		}, KindServerFailure},
		{"fewer records than announced", func(w mdns.ResponseWriter, reply, _ *mdns.Msg) {
			wire, _ := reply.Pack()
			binary.BigEndian.PutUint16(wire[6:], 3)
			_, _ = w.Write(wire)
		}, KindServerFailure},
		{"TCP truncated too", truncating(func(w mdns.ResponseWriter, reply, _ *mdns.Msg) {
			reply.Truncated = true
			_ = w.WriteMsg(reply)
		}), KindServerFailure},
		{"NXDOMAIN for one type, silence for the other", func(w mdns.ResponseWriter, reply, request *mdns.Msg) {
			if request.Question[0].Qtype == mdns.TypeA {
				rcode(mdns.RcodeNameError)(w, reply, request)
			}
		}, KindNotFound},
		{"NODATA for one type, SERVFAIL for the other", func(w mdns.ResponseWriter, reply, request *mdns.Msg) {
			if request.Question[0].Qtype == mdns.TypeA {
				reply.Rcode = mdns.RcodeServerFailure
			}
			_ = w.WriteMsg(reply)
		}, KindServerFailure},
	} {
		t.Run(test.why, func(t *testing.T) {
			s := serve(t, test.handle)
			config := Config{}
			if strings.Contains(test.why, "silence") {
				config = Config{Timeout: time.Second, AttemptTimeout: 500 * time.Millisecond}
			}
			r := resolver(t, config, s)
			got, err := r.Resolve(t.Context(), fair.Subject{}, "api.example")
			if kindIn(t, err) != test.want || got != nil {
				t.Fatalf("got %v, %v; want %s", got, err, test.want)
			}
			checkClientText(t, err.(*Error), s.addr)
		})
	}
}

// checkClientText: a client learns nothing of our resolvers.
func checkClientText(t *testing.T, err *Error, server string) {
	t.Helper()
	host, _, _ := net.SplitHostPort(server)
	for _, text := range []string{err.ClientText(), string(err.Kind)} {
		if text == "" || strings.Contains(text, host) {
			t.Errorf("a client is told %q", text)
		}
	}
}

func TestUnreachableServer(t *testing.T) {
	packets, listener := listenBoth(t)
	gone := packets.LocalAddr().String()
	_, _ = packets.Close(), listener.Close()
	r := resolver(t, Config{}, &server{addr: gone})
	_, err := r.Resolve(t.Context(), fair.Subject{}, "api.example")
	if kindIn(t, err) != KindServerFailure || !strings.Contains(err.Error(), gone) {
		t.Errorf("%v: want a server failure that names %s in the log", err, gone)
	}
	checkClientText(t, err.(*Error), gone)
}

// TestEveryKindHasItsText keeps the closed set closed.
func TestEveryKindHasItsText(t *testing.T) {
	for _, kind := range []Kind{KindNotFound, KindNoAddress, KindTimeout, KindServerFailure, KindRefused, KindOverloaded, KindCanceled, KindInvalid} {
		if (&Error{Kind: kind}).ClientText() == "" {
			t.Errorf("%s has no text", kind)
		}
	}
}

// TestOldServer: one that knows no EDNS is asked without.
func TestOldServer(t *testing.T) {
	honest := records(t, "api.example. 60 A 192.0.2.1")
	r := resolver(t, Config{}, serve(t, func(w mdns.ResponseWriter, reply, request *mdns.Msg) {
		if opt := request.IsEdns0(); opt != nil {
			if opt.UDPSize() != udpSize {
				t.Errorf("announced %d bytes", opt.UDPSize())
			}
			reply.Rcode = mdns.RcodeFormatError
			_ = w.WriteMsg(reply)
			return
		}
		honest(w, reply, request)
	}))
	if got, err := r.Resolve(t.Context(), fair.Subject{}, "api.example"); err != nil || len(got) != 1 {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestNextServer(t *testing.T) {
	for _, test := range []struct {
		why    string
		handle zone
	}{
		{"silence", silent},
		{"SERVFAIL", rcode(mdns.RcodeServerFailure)},
		{"REFUSED", rcode(mdns.RcodeRefused)},
	} {
		t.Run(test.why, func(t *testing.T) {
			first, second := serve(t, test.handle), serve(t, records(t, "api.example. 60 A 192.0.2.1", "other.example. 60 A 192.0.2.2"))
			r := resolver(t, Config{AttemptTimeout: 500 * time.Millisecond}, first, second)
			got, err := r.Resolve(t.Context(), fair.Subject{}, "api.example")
			if err != nil || !slices.Equal(got, addrs("192.0.2.1")) {
				t.Fatalf("got %v, %v", got, err)
			}
			before := len(first.questions())
			if got, err := r.Resolve(t.Context(), fair.Subject{}, "other.example"); err != nil || len(got) != 1 {
				t.Errorf("got %v, %v", got, err)
			}
			again := len(first.questions()) > before
			if wantAgain := test.why != "silence"; again != wantAgain {
				t.Errorf("the first server was asked again: %v, want %v", again, wantAgain)
			}
		})
	}
}

// TestCallerDeadline: the caller's time counts, not ours.
func TestCallerDeadline(t *testing.T) {
	r := resolver(t, Config{Timeout: time.Minute, AttemptTimeout: time.Minute}, serve(t, silent))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.Resolve(ctx, fair.Subject{}, "api.example"); kindIn(t, err) != KindTimeout {
		t.Errorf("%v, want a timeout", err)
	}
}

func TestConfig(t *testing.T) {
	for _, test := range []struct {
		config Config
		says   string
	}{
		{Config{Servers: []string{"10.0.0.2"}}, `write "10.0.0.2:53"`},
		{Config{Servers: []string{"2001:db8::1"}}, `write "[2001:db8::1]:53"`},
		{Config{Servers: []string{"dns.example:53"}}, "not address:port"},
		{Config{Servers: []string{"10.0.0.2:0"}}, "cannot be queried"},
		{Config{Servers: []string{"0.0.0.0:53"}}, "cannot be queried"},
		{Config{Servers: []string{"224.0.0.251:5353"}}, "cannot be queried"},
		{Config{Timeout: -1}, "Timeout"},
		{Config{MinTTL: time.Hour}, "MinTTL"},
		{Config{CacheSize: -1}, "CacheSize"},
	} {
		if _, err := New(test.config); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%+v: %v, want %q", test.config, err, test.says)
		}
	}
}
