package netcheck

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/internal/stepapi"
)

// answer describes what came back; empty means that nothing did.
type answer string

// probeTCP opens a TCP connection and closes it.
func probeTCP(ctx context.Context, network string, address netip.AddrPort) (answer, error) {
	conn, err := dial(ctx, network, address)
	if err != nil {
		return "", err
	}
	conn.Close()
	return "the connection was accepted", nil
}

// dial connects directly. A net.Dialer never uses a proxy.
func dial(ctx context.Context, network string, address netip.AddrPort) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address.String())
	if err != nil {
		return nil, err
	}
	if end, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(end); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return conn, nil
}

// sends is the number of times that a datagram is sent, because one can be lost.
const sends = 3

// exchange sends a datagram, again after each fraction of the remaining time, until one
// comes back that is accepted. Only datagrams from the address are received.
func exchange(ctx context.Context, network string, address netip.AddrPort, datagram []byte, accept func([]byte) bool) error {
	conn, err := dial(ctx, network, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	end, ok := ctx.Deadline()
	if !ok {
		end = time.Now().Add(DefaultTimeout)
	}
	step := time.Until(end) / sends
	buffer := make([]byte, 2048)
	for i := range sends {
		if _, err := conn.Write(datagram); err != nil {
			return err
		}
		wait := end
		if i < sends-1 {
			wait = time.Now().Add(step)
		}
		if err := conn.SetReadDeadline(wait); err != nil {
			return err
		}
		for {
			n, err := conn.Read(buffer)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return err
			}
			if accept(buffer[:n]) {
				return nil
			}
		}
	}
	return os.ErrDeadlineExceeded
}

// probeQUIC sends a packet with a reserved QUIC version, which a server answers with the
// versions that it supports (RFC 9000 sections 6.1, 15 and 17.2). The packet has the
// minimum size of a first datagram, 1200 bytes (section 14.1).
func probeQUIC(ctx context.Context, network string, address netip.AddrPort) (answer, error) {
	const header = 0xc0 // long header, fixed bit
	packet := make([]byte, 1200)
	packet[0] = header
	binary.BigEndian.PutUint32(packet[1:], 0x1a2a3a4a)
	const idSize = 8
	packet[5] = idSize
	rand.Read(packet[6 : 6+idSize])
	packet[6+idSize] = idSize
	rand.Read(packet[7+idSize : 7+2*idSize])
	if err := exchange(ctx, network, address, packet, func([]byte) bool { return true }); err != nil {
		return "", err
	}
	return "a datagram came back", nil
}

// probeDNSOverUDP sends a query to a resolver.
func probeDNSOverUDP(ctx context.Context, network string, address netip.AddrPort) (answer, error) {
	query, id := newQuery()
	if err := exchange(ctx, network, address, query, func(b []byte) bool { return isResponse(b, id) }); err != nil {
		return "", err
	}
	return "the resolver answered", nil
}

// dnsHeaderSize is the size of the header of a DNS message, in bytes.
const dnsHeaderSize = 12

// newQuery returns a query for the name servers of the root zone (RFC 1035 section 4.1),
// and its id. Every resolver answers it, if only with a refusal.
func newQuery() (query []byte, id uint16) {
	var random [2]byte
	rand.Read(random[:])
	id = binary.BigEndian.Uint16(random[:])
	query = append(random[:],
		0x01, 0x00, // recursion desired
		0, 1, 0, 0, 0, 0, 0, 0, // one question
		0,    // the root
		0, 2, // NS
		0, 1) // IN
	return query, id
}

// isResponse reports whether a message is a DNS response with an id.
func isResponse(b []byte, id uint16) bool {
	return len(b) >= dnsHeaderSize && binary.BigEndian.Uint16(b) == id && b[2]&0x80 != 0
}

// rejections are the errors by which the kernel or a router on the path reports that a
// packet may not or cannot leave.
var rejections = []error{
	syscall.EACCES, syscall.EPERM, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.ENETDOWN,
	syscall.EADDRNOTAVAIL, syscall.EAFNOSUPPORT,
}

// judge returns the outcome of a probe and its description. A refused connection cannot
// be decided: the target refuses it, or a firewall does in the target's name.
func judge(a answer, err error, timeout time.Duration) (outcome, detail string) {
	if err == nil {
		return stepapi.OutcomeOpen, string(a)
	}
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) {
		return stepapi.OutcomeError, "refused by the address, or by a firewall in its place: test an address that accepts, and let the firewall reject with icmpx admin-prohibited"
	}
	for _, rejection := range rejections {
		if errors.Is(err, rejection) {
			return stepapi.OutcomeBlocked, rejection.Error()
		}
	}
	timed, isNetwork := errors.AsType[net.Error](err)
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.ETIMEDOUT) || isNetwork && timed.Timeout() {
		return stepapi.OutcomeBlocked, fmt.Sprintf("no answer in %v", timeout)
	}
	return stepapi.OutcomeError, shortened(err.Error())
}

// maxDetail bounds the description of a result, in bytes.
const maxDetail = 200

// shortened returns a text as one line of printable ASCII.
func shortened(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), maxDetail)]
}
