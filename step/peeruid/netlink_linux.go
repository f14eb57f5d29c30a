package peeruid

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// lookup asks the kernel for the peer's socket by netlink: one row by its addresses,
// where /proc/net/tcp lists every socket of the namespace. Where netlink is not available
// (a sandbox, or a kernel without inet_diag), it reads /proc.
func lookup(peer, local netip.AddrPort) (uint32, error) {
	e, err := diag(peer, local)
	if errors.Is(err, errNoNetlink) {
		e, err = find(peer, local)
	}
	if err != nil {
		return 0, err
	}
	return e.user(peer, local)
}

// errNoNetlink means that the kernel does not answer such requests at all.
var errNoNetlink = errors.New("netlink sock_diag is not available")

// request is struct inet_diag_req_v2 behind its header (linux/inet_diag.h).
type request struct {
	header   unix.NlMsghdr
	family   uint8
	protocol uint8
	ext      uint8
	_        uint8
	states   uint32
	id       socketID
}

// socketID is struct inet_diag_sockid. Ports and addresses are in network byte order.
type socketID struct {
	localPort, remotePort [2]byte
	local, remote         [16]byte
	device                uint32
	cookie                [2]uint32
}

// response is struct inet_diag_msg.
type response struct {
	_          [4]uint8 // family, state, timer, retransmits
	id         socketID
	_          [3]uint32 // expires, rqueue, wqueue
	uid, inode uint32
}

const headerBytes = int(unsafe.Sizeof(unix.NlMsghdr{}))

// diag asks for one socket (sock_diag(7)). A request without NLM_F_DUMP has an answer of
// one message.
func diag(peer, local netip.AddrPort) (entry, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return entry{}, fmt.Errorf("%w: %w", errNoNetlink, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return entry{}, fmt.Errorf("%w: %w", errNoNetlink, err)
	}
	q := request{
		header:   unix.NlMsghdr{Len: uint32(unsafe.Sizeof(request{})), Type: unix.SOCK_DIAG_BY_FAMILY, Flags: unix.NLM_F_REQUEST, Seq: 1},
		family:   unix.AF_INET6,
		protocol: unix.IPPROTO_TCP,
		states:   ^uint32(0),
		id:       socketID{cookie: [2]uint32{^uint32(0), ^uint32(0)}},
	}
	if peer.Addr().Is4() {
		q.family = unix.AF_INET // finds the IPv4 connections of IPv6 sockets too
	}
	putAddress(&q.id.local, &q.id.localPort, peer)
	putAddress(&q.id.remote, &q.id.remotePort, local)
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&q)), unsafe.Sizeof(q))
	if err := unix.Sendto(fd, raw, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return entry{}, fmt.Errorf("%w: %w", errNoNetlink, err)
	}
	var b [4096]byte
	n, from, err := unix.Recvfrom(fd, b[:], 0)
	if err != nil {
		return entry{}, fmt.Errorf("%w: %w", errNoNetlink, err)
	}
	if kernel, ok := from.(*unix.SockaddrNetlink); !ok || kernel.Pid != 0 {
		return entry{}, fmt.Errorf("%w: the answer is not the kernel's", ErrUndetermined)
	}
	return parse(b[:n])
}

func putAddress(address *[16]byte, port *[2]byte, from netip.AddrPort) {
	copy(address[:], from.Addr().AsSlice())
	binary.BigEndian.PutUint16(port[:], from.Port())
}

// parse reads the kernel's answer: a socket or an error.
func parse(b []byte) (entry, error) {
	if len(b) < headerBytes {
		return entry{}, fmt.Errorf("%w: the kernel's answer is short", ErrUndetermined)
	}
	order := binary.NativeEndian
	kind, body := order.Uint16(b[4:]), b[headerBytes:]
	switch {
	case kind == unix.NLMSG_ERROR && len(body) >= 4:
		errno := unix.Errno(-int32(order.Uint32(body)))
		if errno == unix.ENOENT {
			// No socket, or no inet_diag for TCP: /proc has the answer.
			return entry{}, errNoNetlink
		}
		return entry{}, fmt.Errorf("%w: %w", errNoNetlink, errno)
	case kind != unix.SOCK_DIAG_BY_FAMILY || len(body) < int(unsafe.Sizeof(response{})):
		return entry{}, fmt.Errorf("%w: the kernel's answer has the type %d", ErrUndetermined, kind)
	}
	// struct inet_diag_msg; the offsets are those of response.
	const port = int(unsafe.Offsetof(response{}.id))
	const address = port + int(unsafe.Offsetof(socketID{}.local))
	e := entry{
		state: body[1],
		uid:   order.Uint32(body[unsafe.Offsetof(response{}.uid):]),
		inode: order.Uint32(body[unsafe.Offsetof(response{}.inode):]),
	}
	e.local = netip.AddrPortFrom(addressOf(body[0], body[address:address+16]), binary.BigEndian.Uint16(body[port:]))
	e.remote = netip.AddrPortFrom(addressOf(body[0], body[address+16:address+32]), binary.BigEndian.Uint16(body[port+2:]))
	return e, nil
}

// addressOf reads an address of a family. The IPv4 connection of an IPv6 socket has the
// form of IPv6.
func addressOf(family uint8, b []byte) netip.Addr {
	if family == unix.AF_INET {
		return netip.AddrFrom4([4]byte(b))
	}
	return netip.AddrFrom16([16]byte(b)).Unmap()
}
