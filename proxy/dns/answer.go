package dns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	mdns "github.com/miekg/dns"
)

const (
	// addressMax is how many addresses of one family are used.
	addressMax = 16
	// chainMax is how many aliases are followed.
	chainMax = 16
)

var (
	// errForeign: the message is not an answer to our question.
	errForeign = errors.New("no answer to the question")
	// errTruncated: the answer did not fit.
	errTruncated = errors.New("truncated")
	// errFormat: the server did not understand the question.
	errFormat = errors.New("FORMERR")
)

// answer is a server's response to one question: addresses of the requested family, or
// that there are none.
type answer struct {
	addrs []netip.Addr
	// missing: there is no such name, of any type.
	missing bool
	// ttl is the least TTL of what was used; without addresses it is how long that may be
	// cached (RFC 2308 section 5), 0 without an SOA record.
	ttl time.Duration
}

// readAnswer reads a message as the answer to a question that was sent under id.
// It is the only reader of bytes from the network here. Errors are errForeign,
// errTruncated, errFormat or of type *failure.
func readAnswer(wire []byte, id uint16, q question) (answer, error) {
	const headerSize = 12
	if len(wire) < headerSize || binary.BigEndian.Uint16(wire) != id {
		return answer{}, errForeign
	}
	var m mdns.Msg
	unpackErr := m.Unpack(wire) // the question is there even where the rest is broken
	if !m.Response || m.Opcode != mdns.OpcodeQuery || !matches(&m, q) {
		return answer{}, errForeign
	}
	if m.Truncated {
		return answer{}, errTruncated
	}
	// The library takes a message that ends before its last record for whole.
	if unpackErr == nil && len(m.Answer) != int(binary.BigEndian.Uint16(wire[6:])) {
		unpackErr = errors.New("fewer records than announced")
	}
	if unpackErr != nil {
		return answer{}, &failure{kind: KindServerFailure, err: fmt.Errorf("malformed answer: %w", unpackErr)}
	}
	switch m.Rcode {
	case mdns.RcodeSuccess:
		return follow(&m, q)
	case mdns.RcodeNameError:
		return answer{missing: true, ttl: negativeTTL(&m)}, nil
	case mdns.RcodeFormatError:
		return answer{}, &failure{kind: KindServerFailure, err: errFormat}
	case mdns.RcodeRefused:
		return answer{}, &failure{kind: KindRefused, err: errors.New("REFUSED")}
	}
	return answer{}, &failure{kind: KindServerFailure, err: fmt.Errorf("rcode %d %s", m.Rcode, mdns.RcodeToString[m.Rcode])}
}

// matches reports whether a message repeats the question. Servers that refuse
// may leave it out.
func matches(m *mdns.Msg, q question) bool {
	if len(m.Question) == 0 {
		return m.Rcode != mdns.RcodeSuccess && m.Rcode != mdns.RcodeNameError
	}
	asked := m.Question[0]
	return len(m.Question) == 1 && asked.Qtype == q.qtype && asked.Qclass == mdns.ClassINET &&
		mdns.CanonicalName(asked.Name) == q.name
}

// follow follows the aliases from the question's name and returns the addresses at their
// end. Every other record is ignored: a resolver that returns more than was requested
// could otherwise set the addresses of any name.
func follow(m *mdns.Msg, q question) (answer, error) {
	owners := make([]string, len(m.Answer))
	for i, rr := range m.Answer {
		if h := rr.Header(); h.Class == mdns.ClassINET {
			owners[i] = mdns.CanonicalName(h.Name)
		}
	}
	ttl := time.Duration(1<<31) * time.Second
	name := q.name
	for range chainMax {
		var found []netip.Addr
		alias, aliasTTL := "", ttl
		for i, rr := range m.Answer {
			if owners[i] != name {
				continue
			}
			if cname, ok := rr.(*mdns.CNAME); ok {
				next := mdns.CanonicalName(cname.Target)
				if alias != "" && alias != next { // RFC 2181 section 10.1
					return answer{}, &failure{kind: KindServerFailure, err: errors.New("a name has two aliases")}
				}
				alias, aliasTTL = next, min(aliasTTL, ttlOf(rr))
			} else if addr, ok := address(rr, q.qtype); ok && len(found) < addressMax && !slices.Contains(found, addr) {
				found = append(found, addr)
				ttl = min(ttl, ttlOf(rr))
			}
		}
		if len(found) > 0 {
			return answer{addrs: found, ttl: ttl}, nil
		}
		if alias == "" {
			return none(m)
		}
		name, ttl = alias, aliasTTL
	}
	return answer{}, &failure{kind: KindServerFailure, err: errors.New("aliases in a loop, or too many")}
}

// none is an answer without addresses, unless the server only points elsewhere:
// it does no recursion, and its silence means nothing.
func none(m *mdns.Msg) (answer, error) {
	soa := slices.ContainsFunc(m.Ns, func(rr mdns.RR) bool { return rr.Header().Rrtype == mdns.TypeSOA })
	if !m.RecursionAvailable && !m.Authoritative && !soa {
		return answer{}, &failure{kind: KindServerFailure, err: errors.New("the server is not a recursive resolver")}
	}
	return answer{ttl: negativeTTL(m)}, nil
}

// address returns the address in a record of the type that was asked for.
func address(rr mdns.RR, qtype uint16) (netip.Addr, bool) {
	var addr netip.Addr
	ok := false
	switch rr := rr.(type) {
	case *mdns.A:
		if qtype == mdns.TypeA {
			addr, ok = netip.AddrFromSlice(rr.A.To4())
		}
	case *mdns.AAAA:
		if qtype == mdns.TypeAAAA {
			// A mapped address is another spelling of an IPv4 one and has no
			// business in the DNS (RFC 4291 section 2.5.5.2).
			addr, ok = netip.AddrFromSlice(rr.AAAA.To16())
			ok = ok && !addr.Is4In6()
		}
	}
	return addr, ok
}

// negativeTTL is RFC 2308 section 5: the lesser of the SOA's TTL and MINIMUM.
func negativeTTL(m *mdns.Msg) time.Duration {
	for _, rr := range m.Ns {
		if soa, ok := rr.(*mdns.SOA); ok {
			return min(ttlOf(rr), time.Duration(soa.Minttl)*time.Second)
		}
	}
	return 0
}

// ttlOf is a record's TTL; one with the highest bit set is 0 (RFC 2181 section 8).
func ttlOf(rr mdns.RR) time.Duration {
	ttl := rr.Header().Ttl
	if ttl > 1<<31-1 {
		return 0
	}
	return time.Duration(ttl) * time.Second
}
