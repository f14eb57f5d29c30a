package dns

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	mdns "github.com/miekg/dns"
)

const (
	// udpSize is the size that servers may send (EDNS): it fits the smallest IPv6 path
	// without fragments (DNS Flag Day 2020, RFC 9715 section 3).
	udpSize = 1232
	// foreignMax is how many datagrams that do not answer our question are ignored. More
	// means that an attacker is guessing ids, which is not possible over TCP.
	foreignMax = 16
)

var (
	// errUnreachable: the server cannot be talked to.
	errUnreachable = errors.New("cannot be reached")
	// errFlooded: too many datagrams that are not an answer.
	errFlooded = errors.New("too many datagrams that do not answer the question")
)

// failure is a server that did answer, or that is known to be unavailable: what is not
// one is a timeout.
type failure struct {
	kind Kind
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// question is one name, fully qualified, and one type.
type question struct {
	name  string
	qtype uint16
}

// exchange sends a question to one server and returns its response. Errors are of type
// *failure, or the context's.
func exchange(ctx context.Context, server netip.AddrPort, q question) (answer, error) {
	edns := true
	a, err := overUDP(ctx, server, q, edns)
	if errors.Is(err, errFormat) { // RFC 6891 section 7: it may not know EDNS
		edns = false
		a, err = overUDP(ctx, server, q, edns)
	}
	if errors.Is(err, errTruncated) || errors.Is(err, errFlooded) {
		a, err = overTCP(ctx, server, q, edns)
	}
	if err == nil {
		return a, nil
	}
	if ctx.Err() != nil {
		return answer{}, ctx.Err()
	}
	if _, ok := errors.AsType[*failure](err); ok {
		return answer{}, err
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return answer{}, context.DeadlineExceeded
	}
	return answer{}, &failure{kind: KindServerFailure, err: fmt.Errorf("%w: %w", errUnreachable, err)}
}

// pack makes the question's message, under an id that cannot be guessed.
func pack(q question, edns bool) (wire []byte, id uint16, err error) {
	var random [2]byte
	_, _ = rand.Read(random[:]) // never fails
	m := mdns.Msg{
		MsgHdr:   mdns.MsgHdr{Id: binary.BigEndian.Uint16(random[:]), RecursionDesired: true},
		Question: []mdns.Question{{Name: q.name, Qtype: q.qtype, Qclass: mdns.ClassINET}},
	}
	if edns {
		m.SetEdns0(udpSize, false)
	}
	if wire, err = m.Pack(); err != nil {
		return nil, 0, &failure{kind: KindInvalid, err: fmt.Errorf("pack the question: %w", err)}
	}
	return wire, m.Id, nil
}

// overUDP asks over a connected socket: the kernel chooses a random port and
// drops what does not come from the server.
func overUDP(ctx context.Context, server netip.AddrPort, q question, edns bool) (answer, error) {
	wire, id, err := pack(q, edns)
	if err != nil {
		return answer{}, err
	}
	conn, err := new(net.Dialer).DialUDP(ctx, "udp", netip.AddrPort{}, server)
	if err != nil {
		return answer{}, err
	}
	defer closeWith(ctx, conn)()
	if _, err := conn.Write(wire); err != nil {
		return answer{}, err
	}
	buffer := make([]byte, 4096) // more than we asked for: not everyone listens
	for range foreignMax {
		n, err := conn.Read(buffer)
		if err != nil {
			return answer{}, err
		}
		a, err := readAnswer(buffer[:n], id, q)
		if !errors.Is(err, errForeign) {
			return a, err
		}
	}
	return answer{}, errFlooded
}

// overTCP asks over a connection of its own (RFC 7766).
func overTCP(ctx context.Context, server netip.AddrPort, q question, edns bool) (answer, error) {
	wire, id, err := pack(q, edns)
	if err != nil {
		return answer{}, err
	}
	conn, err := new(net.Dialer).DialTCP(ctx, "tcp", netip.AddrPort{}, server)
	if err != nil {
		return answer{}, err
	}
	defer closeWith(ctx, conn)()
	// One write, RFC 7766 section 8.
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...)); err != nil {
		return answer{}, err
	}
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return answer{}, err
	}
	buffer := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(conn, buffer); err != nil {
		return answer{}, err
	}
	a, err := readAnswer(buffer, id, q)
	if errors.Is(err, errForeign) || errors.Is(err, errTruncated) || errors.Is(err, errFormat) {
		return answer{}, &failure{kind: KindServerFailure, err: fmt.Errorf("over TCP: %w", err)}
	}
	return a, err
}

// closeWith makes conn's reads and writes end with ctx, and returns what closes
// it.
func closeWith(ctx context.Context, conn net.Conn) (done func()) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return func() {
		stop()
		_ = conn.Close()
	}
}
