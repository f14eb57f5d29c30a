package frontend

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net/netip"
	"strconv"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// The PROXY protocol, versions 1 and 2, by which a load balancer sends the address of the
// client whose connection it forwards (HAProxy's proxy-protocol.txt). The header precedes
// everything else, TLS included.
//
// The specification's section 2 forbids guessing: from the configured networks the header
// is required, and from everywhere else it is a malformed request head. So no client
// chooses its own address.

const (
	maxProxyLine = 107     // version 1, CRLF included (section 2.1)
	maxProxyRest = 2 << 10 // version 2: addresses and extensions
	proxyFirst   = 12      // every header has at least as many bytes
)

var proxySignature = []byte("\r\n\r\n\x00\r\nQUIT\n") // section 2.2

var (
	errProxyMissing = errors.New("the PROXY protocol header is missing, which this peer has to send")
	errProxyInvalid = errors.New("the PROXY protocol header is malformed")
)

// proxied reads the header that this peer has to send, and takes the client's
// address from it. It reports whether the connection continues.
func (c *conn) proxied() bool {
	if !c.server.isProxyPeer(c) {
		return true
	}
	if c.stream.SetReadDeadline(time.Now().Add(c.server.config.HeadTimeout)) != nil {
		return false
	}
	source, err := readProxyHeader(c.stream)
	switch {
	case err == nil:
		c.peer = c.client.Addr()
		if source.IsValid() {
			c.client = source
		}
		return true
	case errors.Is(err, errProxyMissing), errors.Is(err, errProxyInvalid):
		c.server.config.Log.Warn("connection refused", "listener", c.listener.Name, "peer", c.client.Addr(), "error", err)
		if c.listener.TLS != nil {
			// The peer speaks TLS next, or neither: there is no language to answer in.
			c.server.config.Observer.Refused(c.listener.Name, policy.RequestInvalid)
			return false
		}
		c.minor = 1
		c.refuseHere(malformed(err.Error()))
	case isTimeout(err):
		c.server.config.Observer.Refused(c.listener.Name, policy.HeadTimeout)
	}
	// A peer that closes the connection without a byte is a health check.
	return false
}

func (s *Server) isProxyPeer(c *conn) bool {
	for _, network := range c.listener.ProxyProtocolFrom {
		if network.Contains(c.client.Addr()) {
			return true
		}
	}
	return false
}

// readProxyHeader reads one header and not a byte more, so that what follows is
// still the connection's own. An invalid address without an error means that the
// sender speaks for itself or does not know: the connection's address counts.
func readProxyHeader(r io.Reader) (netip.AddrPort, error) {
	b := make([]byte, proxyFirst, maxProxyLine)
	if _, err := io.ReadFull(r, b); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return netip.AddrPort{}, errProxyMissing
		}
		return netip.AddrPort{}, err
	}
	switch {
	case bytes.Equal(b, proxySignature):
		return readProxy2(r)
	case bytes.HasPrefix(b, []byte("PROXY ")):
		return readProxy1(r, b)
	}
	return netip.AddrPort{}, errProxyMissing
}

// readProxy1 reads the rest of a line (section 2.1). It ends with CRLF, so that
// two bytes may be read at a time, and one behind a carriage return.
func readProxy1(r io.Reader, b []byte) (netip.AddrPort, error) {
	for {
		n := 2
		if b[len(b)-1] == '\r' {
			n = 1
		}
		if len(b)+n > maxProxyLine {
			return netip.AddrPort{}, errProxyInvalid
		}
		b = b[:len(b)+n]
		if _, err := io.ReadFull(r, b[len(b)-n:]); err != nil {
			return netip.AddrPort{}, broken(err)
		}
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			if i != len(b)-1 || b[i-1] != '\r' {
				return netip.AddrPort{}, errProxyInvalid
			}
			return parseProxy1(b[:i-1])
		}
	}
}

// parseProxy1 reads a line without its CRLF.
func parseProxy1(line []byte) (netip.AddrPort, error) {
	fields := bytes.Split(line, []byte{' '})
	if string(fields[1]) == "UNKNOWN" {
		return netip.AddrPort{}, nil // and whatever follows is ignored
	}
	if len(fields) != 6 || bytes.IndexByte(line, '\r') >= 0 {
		return netip.AddrPort{}, errProxyInvalid
	}
	six := string(fields[1]) == "TCP6"
	if !six && string(fields[1]) != "TCP4" {
		return netip.AddrPort{}, errProxyInvalid
	}
	source, ok := proxyAddress(fields[2], fields[4], six)
	_, alsoOK := proxyAddress(fields[3], fields[5], six)
	if !ok || !alsoOK {
		return netip.AddrPort{}, errProxyInvalid
	}
	return checkedSource(source)
}

func proxyAddress(address, port []byte, six bool) (netip.AddrPort, bool) {
	a, err := netip.ParseAddr(string(address))
	if err != nil || a.Is6() != six || a.Zone() != "" {
		return netip.AddrPort{}, false
	}
	n, err := strconv.ParseUint(string(port), 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != string(port) {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(a, uint16(n)), true
}

// checkedSource refuses what is not a client's address.
func checkedSource(source netip.AddrPort) (netip.AddrPort, error) {
	a := source.Addr().Unmap()
	if a.IsUnspecified() || a.IsMulticast() {
		return netip.AddrPort{}, errProxyInvalid
	}
	return netip.AddrPortFrom(a, source.Port()), nil
}

// readProxy2 reads what follows the signature (section 2.2).
func readProxy2(r io.Reader) (netip.AddrPort, error) {
	header := make([]byte, 4, 64)
	if _, err := io.ReadFull(r, header); err != nil {
		return netip.AddrPort{}, broken(err)
	}
	length := int(binary.BigEndian.Uint16(header[2:]))
	if header[0]>>4 != 2 || length > maxProxyRest {
		return netip.AddrPort{}, errProxyInvalid
	}
	rest := make([]byte, length)
	if _, err := io.ReadFull(r, rest); err != nil {
		return netip.AddrPort{}, broken(err)
	}
	return parseProxy2(header, rest)
}

func parseProxy2(header, rest []byte) (netip.AddrPort, error) {
	const local, proxied = 0, 1
	switch header[0] & 0x0f {
	case local:
		return netip.AddrPort{}, nil // and whatever follows is ignored
	case proxied:
	default:
		return netip.AddrPort{}, errProxyInvalid
	}
	var source netip.AddrPort
	extensions := rest
	switch family := header[1]; {
	case family == 0x00: // unspecified
	case family == 0x11 && len(rest) >= 12: // TCP over IPv4
		source = netip.AddrPortFrom(netip.AddrFrom4([4]byte(rest)), binary.BigEndian.Uint16(rest[8:]))
		extensions = rest[12:]
	case family == 0x21 && len(rest) >= 36: // TCP over IPv6
		source = netip.AddrPortFrom(netip.AddrFrom16([16]byte(rest)), binary.BigEndian.Uint16(rest[32:]))
		extensions = rest[36:]
	default: // datagrams and local sockets are nothing that this listener has
		return netip.AddrPort{}, errProxyInvalid
	}
	// Behind an unspecified family the end of the addresses is unknown.
	if source.IsValid() && !soundExtensions(header, rest, extensions) {
		return netip.AddrPort{}, errProxyInvalid
	}
	if !source.IsValid() {
		return netip.AddrPort{}, nil
	}
	return checkedSource(source)
}

// soundExtensions walks the type-length-values and compares the checksum if there is one
// (section 2.2.3). The others are not used here.
func soundExtensions(header, rest, extensions []byte) bool {
	const checksum = 0x03
	for len(extensions) > 0 {
		if len(extensions) < 3 {
			return false
		}
		kind, length := extensions[0], int(binary.BigEndian.Uint16(extensions[1:]))
		if len(extensions) < 3+length {
			return false
		}
		value := extensions[3 : 3+length]
		extensions = extensions[3+length:]
		if kind != checksum {
			continue
		}
		if length != 4 {
			return false
		}
		want := binary.BigEndian.Uint32(value)
		at := len(rest) - len(extensions) - 4
		all := bytes.Join([][]byte{proxySignature, header, rest[:at], {0, 0, 0, 0}, rest[at+4:]}, nil)
		if crc32.Checksum(all, crc32.MakeTable(crc32.Castagnoli)) != want {
			return false
		}
	}
	return true
}

// broken distinguishes a header that ends too soon from a connection that fails.
func broken(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errProxyInvalid
	}
	return err
}
