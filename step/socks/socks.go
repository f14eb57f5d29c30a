// Package socks reads the client's side of SOCKS 5 (RFC 1928) for a proxy that has no
// authentication and serves CONNECT only.
package socks

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
)

// Version is the first byte of a client that speaks SOCKS 5, and Version4 of SOCKS 4.
const (
	Version  = 5
	Version4 = 4
)

// Reply is the code of a reply (RFC 1928 section 6).
type Reply byte

// The codes of replies.
const (
	Succeeded          Reply = 0
	GeneralFailure     Reply = 1
	NotAllowed         Reply = 2
	HostUnreachable    Reply = 4
	ConnectionRefused  Reply = 5
	TTLExpired         Reply = 6
	CommandUnsupported Reply = 7
	AddressUnsupported Reply = 8
	noMethod           byte  = 0xff
	methodNone         byte  = 0
	commandConnect     byte  = 1
	addressIPv4        byte  = 1
	addressDomain      byte  = 3
	addressIPv6        byte  = 4
)

// ErrProtocol means that the client does not speak SOCKS 5, or requests something that is
// not served. The client has received the reply where there is one.
var ErrProtocol = errors.New("socks")

// Target reads the greeting and the request of a client, answers the greeting, and
// returns the target as host:port. The host is what the client sent: a domain name is not
// checked. A request that is not served is answered. The caller bounds the time, sends the
// reply to a request, and closes the connection. Nothing beyond the request is read.
func Target(c io.ReadWriter) (string, error) {
	if err := greet(c); err != nil {
		return "", err
	}
	var head [4]byte // version, command, reserved, type of address
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return "", err
	}
	if head[0] != Version {
		return "", fmt.Errorf("%w: the request has the version %d", ErrProtocol, head[0])
	}
	host, err := readHost(c, head[3])
	if err != nil {
		return "", err
	}
	var port [2]byte
	if _, err := io.ReadFull(c, port[:]); err != nil {
		return "", err
	}
	if head[1] != commandConnect {
		reply(c, CommandUnsupported)
		return "", fmt.Errorf("%w: the command %d is not served: only CONNECT (1) is", ErrProtocol, head[1])
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port[0])<<8|int(port[1]))), nil
}

// greet reads the list of methods and selects "no authentication required".
func greet(c io.ReadWriter) error {
	var head [2]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return err
	}
	if head[0] != Version {
		return fmt.Errorf("%w: the greeting has the version %d", ErrProtocol, head[0])
	}
	methods := make([]byte, head[1])
	if _, err := io.ReadFull(c, methods); err != nil {
		return err
	}
	for _, m := range methods {
		if m == methodNone {
			_, err := c.Write([]byte{Version, methodNone})
			return err
		}
	}
	_, _ = c.Write([]byte{Version, noMethod})
	return fmt.Errorf("%w: the client requires authentication: configure the proxy without user and password", ErrProtocol)
}

func readHost(c io.ReadWriter, kind byte) (string, error) {
	var size [1]byte
	switch kind {
	case addressIPv4:
		size[0] = 4
	case addressIPv6:
		size[0] = 16
	case addressDomain:
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return "", err
		}
	default:
		reply(c, AddressUnsupported)
		return "", fmt.Errorf("%w: the type %d of the address is not known", ErrProtocol, kind)
	}
	b := make([]byte, size[0])
	if _, err := io.ReadFull(c, b); err != nil {
		return "", err
	}
	if kind == addressDomain {
		if len(b) == 0 {
			reply(c, AddressUnsupported)
			return "", fmt.Errorf("%w: the domain name is empty", ErrProtocol)
		}
		return string(b), nil
	}
	address, _ := netip.AddrFromSlice(b)
	return address.Unmap().String(), nil
}

// AppendReply appends the reply to a request. The bound address is 0.0.0.0:0: the address
// from which Sallyport connects is not known here.
func AppendReply(b []byte, r Reply) []byte {
	return append(b, Version, byte(r), 0, addressIPv4, 0, 0, 0, 0, 0, 0)
}

func reply(c io.Writer, r Reply) { _, _ = c.Write(AppendReply(nil, r)) }
