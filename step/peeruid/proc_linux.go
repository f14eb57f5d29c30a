package peeruid

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"strconv"
)

// find reads the peer's socket from /proc/net/tcp and tcp6 (proc(5)). The IPv4
// connections of IPv6 sockets are in tcp6.
func find(peer, local netip.AddrPort) (entry, error) {
	e, err := findIn("/proc/net/tcp", peer, local)
	if err == nil {
		return e, nil
	}
	e, err6 := findIn("/proc/net/tcp6", peer, local)
	if err6 == nil {
		return e, nil
	}
	return entry{}, fmt.Errorf("%w: %w; %w", ErrUndetermined, err, err6)
}

func findIn(name string, peer, local netip.AddrPort) (entry, error) {
	f, err := os.Open(name)
	if err != nil {
		return entry{}, err
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	lines.Scan() // the names of the columns
	for lines.Scan() {
		e, ok := parseLine(lines.Bytes())
		if ok && e.local == peer && e.remote == local {
			return e, nil
		}
	}
	if err := lines.Err(); err != nil {
		return entry{}, err
	}
	return entry{}, fmt.Errorf("%s has no such socket", name)
}

// parseLine reads a row: sl, local address, remote address, state, queues, timer,
// retransmits, uid, timeout, inode.
func parseLine(line []byte) (e entry, ok bool) {
	fields := bytes.Fields(line)
	if len(fields) < 10 {
		return entry{}, false
	}
	var okLocal, okRemote bool
	e.local, okLocal = parseAddress(fields[1])
	e.remote, okRemote = parseAddress(fields[2])
	state, err := strconv.ParseUint(string(fields[3]), 16, 8)
	uid, errUID := strconv.ParseUint(string(fields[7]), 10, 32)
	inode, errInode := strconv.ParseUint(string(fields[9]), 10, 32)
	e.state, e.uid, e.inode = uint8(state), uint32(uid), uint32(inode)
	return e, okLocal && okRemote && err == nil && errUID == nil && errInode == nil
}

// parseAddress reads ADDRESS:PORT in hexadecimal. The address consists of words of 32 bits
// in the machine's byte order.
func parseAddress(field []byte) (netip.AddrPort, bool) {
	text, portText, _ := bytes.Cut(field, []byte{':'})
	port, err := strconv.ParseUint(string(portText), 16, 16)
	raw := make([]byte, hex.DecodedLen(len(text)))
	if _, errHex := hex.Decode(raw, text); err != nil || errHex != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	address, ok := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(address.Unmap(), uint16(port)), ok
}
