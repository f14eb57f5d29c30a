// Package proxyprotocol reads the header of the PROXY protocol, versions 1 and 2, by which
// a load balancer sends the address of the client whose connection it forwards (HAProxy's
// proxy-protocol.txt). The header precedes everything else, TLS included.
//
// The specification's section 2 forbids guessing. A listener therefore requires the header
// from configured networks, and refuses it from all others: a client cannot choose its
// own address.
package proxyprotocol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net/netip"
	"strconv"
)

const (
	maxLine    = 107     // version 1, CRLF included (section 2.1)
	maxRest    = 2 << 10 // version 2: addresses and extensions
	firstBytes = 12      // every header has at least as many bytes
)

var signature = []byte("\r\n\r\n\x00\r\nQUIT\n") // section 2.2

// The errors of [Read], beside those of the connection.
var (
	ErrMissing = errors.New("the PROXY protocol header is missing, which this peer has to send")
	ErrInvalid = errors.New("the PROXY protocol header is malformed")
)

// Read reads one header and not a byte more: the next bytes belong to the connection. An
// invalid address without an error means that the sender opened the connection itself, or
// does not know the client: the connection's own address applies. Read blocks; the caller
// sets a deadline.
func Read(r io.Reader) (netip.AddrPort, error) {
	b := make([]byte, firstBytes, maxLine)
	if _, err := io.ReadFull(r, b); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return netip.AddrPort{}, ErrMissing
		}
		return netip.AddrPort{}, err
	}
	switch {
	case bytes.Equal(b, signature):
		return readVersion2(r)
	case bytes.HasPrefix(b, []byte("PROXY ")):
		return readVersion1(r, b)
	}
	return netip.AddrPort{}, ErrMissing
}

// readVersion1 reads the rest of a line (section 2.1). It ends with CRLF, so that
// two bytes may be read at a time, and one behind a carriage return.
func readVersion1(r io.Reader, b []byte) (netip.AddrPort, error) {
	for {
		n := 2
		if b[len(b)-1] == '\r' {
			n = 1
		}
		if len(b)+n > maxLine {
			return netip.AddrPort{}, ErrInvalid
		}
		b = b[:len(b)+n]
		if _, err := io.ReadFull(r, b[len(b)-n:]); err != nil {
			return netip.AddrPort{}, broken(err)
		}
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			if i != len(b)-1 || b[i-1] != '\r' {
				return netip.AddrPort{}, ErrInvalid
			}
			return parseVersion1(b[:i-1])
		}
	}
}

// parseVersion1 reads a line without its CRLF.
func parseVersion1(line []byte) (netip.AddrPort, error) {
	fields := bytes.Split(line, []byte{' '})
	if string(fields[1]) == "UNKNOWN" {
		return netip.AddrPort{}, nil // and whatever follows is ignored
	}
	if len(fields) != 6 || bytes.IndexByte(line, '\r') >= 0 {
		return netip.AddrPort{}, ErrInvalid
	}
	six := string(fields[1]) == "TCP6"
	if !six && string(fields[1]) != "TCP4" {
		return netip.AddrPort{}, ErrInvalid
	}
	source, ok := parseAddress(fields[2], fields[4], six)
	_, alsoOK := parseAddress(fields[3], fields[5], six)
	if !ok || !alsoOK {
		return netip.AddrPort{}, ErrInvalid
	}
	return checkedSource(source)
}

func parseAddress(address, port []byte, six bool) (netip.AddrPort, bool) {
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
		return netip.AddrPort{}, ErrInvalid
	}
	return netip.AddrPortFrom(a, source.Port()), nil
}

// readVersion2 reads what follows the signature (section 2.2).
func readVersion2(r io.Reader) (netip.AddrPort, error) {
	header := make([]byte, 4, 64)
	if _, err := io.ReadFull(r, header); err != nil {
		return netip.AddrPort{}, broken(err)
	}
	length := int(binary.BigEndian.Uint16(header[2:]))
	if header[0]>>4 != 2 || length > maxRest {
		return netip.AddrPort{}, ErrInvalid
	}
	rest := make([]byte, length)
	if _, err := io.ReadFull(r, rest); err != nil {
		return netip.AddrPort{}, broken(err)
	}
	return parseVersion2(header, rest)
}

func parseVersion2(header, rest []byte) (netip.AddrPort, error) {
	const local, proxied = 0, 1
	switch header[0] & 0x0f {
	case local:
		return netip.AddrPort{}, nil // and whatever follows is ignored
	case proxied:
	default:
		return netip.AddrPort{}, ErrInvalid
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
		return netip.AddrPort{}, ErrInvalid
	}
	// Behind an unspecified family the end of the addresses is unknown.
	if source.IsValid() && !soundExtensions(header, rest, extensions) {
		return netip.AddrPort{}, ErrInvalid
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
		all := bytes.Join([][]byte{signature, header, rest[:at], {0, 0, 0, 0}, rest[at+4:]}, nil)
		if crc32.Checksum(all, crc32.MakeTable(crc32.Castagnoli)) != want {
			return false
		}
	}
	return true
}

// broken distinguishes a header that ends too soon from a connection that fails.
func broken(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrInvalid
	}
	return err
}
