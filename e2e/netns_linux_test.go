package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inside is set in the environment of a test process that has a network of its
// own, and names the directory with the programs that were built for it.
const inside = "SALLYPORT_TEST_NETWORK"

// enterNetwork runs this test again in a process with a network namespace of its
// own, and reports whether that could be made. Root makes one directly, anybody
// else inside a user namespace, where the kernel lets him.
func enterNetwork(t *testing.T, programs string) (made bool, why string) {
	t.Helper()
	runtime.LockOSThread() // Pdeathsig is about the thread that started the process
	defer runtime.UnlockOSThread()
	var last error
	for _, attr := range []*syscall.SysProcAttr{
		{Cloneflags: syscall.CLONE_NEWNET},
		{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}},
			AmbientCaps: []uintptr{12, 13}, // CAP_NET_ADMIN, CAP_NET_RAW: over the new network alone
		},
	} {
		attr.Pdeathsig = syscall.SIGKILL
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=8m")
		cmd.Env, cmd.SysProcAttr = append(os.Environ(), inside+"="+programs), attr
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGABRT) } // with its stacks
		cmd.WaitDelay = 10 * time.Second
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err := cmd.Run()
		if _, ran := errors.AsType[*exec.ExitError](err); err == nil || ran && cmd.ProcessState.ExitCode() != noNetwork {
			t.Logf("in a network namespace of its own:\n%s", tail(out.String()))
			if err != nil {
				t.Errorf("in a network namespace of its own: %v\n%s", err, complaints(out.String()))
			}
			return true, ""
		}
		if err = errors.Join(err, errors.New(tail(out.String()))); err != nil {
			last = err
		}
	}
	return false, last.Error()
}

// complaints are the lines in which tests report failures, which the logs of
// the servers would otherwise bury.
func complaints(output string) string {
	var b strings.Builder
	for line := range strings.Lines(output) {
		if strings.Contains(line, "_test.go:") || strings.Contains(line, "--- FAIL") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// noNetwork is the status of a process that could not set its network up.
const noNetwork = 77

// anywhere makes every address of both families one of this machine's, so that
// whatever is dialled arrives at the listeners of the test: the loopback device
// is the network namespace's only one, and nothing leaves it.
func anywhere() error {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, syscall.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer syscall.Close(fd)
	const loopback = 1 // the first device of every namespace
	up := make([]byte, syscall.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(up[4:], loopback)
	binary.NativeEndian.PutUint32(up[8:], syscall.IFF_UP)  // flags
	binary.NativeEndian.PutUint32(up[12:], syscall.IFF_UP) // of which these change
	if err := netlink(fd, syscall.RTM_NEWLINK, 0, up); err != nil {
		return fmt.Errorf("bring the loopback device up: %w", err)
	}
	for _, family := range []byte{syscall.AF_INET, syscall.AF_INET6} {
		route := []byte{family, 0, 0, 0, syscall.RT_TABLE_LOCAL, syscall.RTPROT_STATIC, syscall.RT_SCOPE_HOST, syscall.RTN_LOCAL, 0, 0, 0, 0}
		route = binary.NativeEndian.AppendUint16(route, 8) // one attribute of four bytes
		route = binary.NativeEndian.AppendUint16(route, syscall.RTA_OIF)
		route = binary.NativeEndian.AppendUint32(route, loopback)
		if err := netlink(fd, syscall.RTM_NEWROUTE, syscall.NLM_F_CREATE, route); err != nil {
			return fmt.Errorf("make every address of family %d local: %w", family, err)
		}
	}
	return nil
}

// netlink sends one request (rtnetlink(7)) and waits for its acknowledgement.
func netlink(fd int, kind, flags uint16, body []byte) error {
	m := binary.NativeEndian.AppendUint32(nil, uint32(syscall.SizeofNlMsghdr+len(body)))
	m = binary.NativeEndian.AppendUint16(m, kind)
	m = binary.NativeEndian.AppendUint16(m, flags|syscall.NLM_F_REQUEST|syscall.NLM_F_ACK)
	m = append(m, make([]byte, 8)...) // sequence and port
	if err := syscall.Sendto(fd, append(m, body...), 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return err
	}
	b := make([]byte, 4096)
	n, _, err := syscall.Recvfrom(fd, b, 0)
	if err != nil {
		return err
	}
	messages, err := syscall.ParseNetlinkMessage(b[:n])
	if err != nil || len(messages) == 0 || messages[0].Header.Type != syscall.NLMSG_ERROR || len(messages[0].Data) < 4 {
		return fmt.Errorf("an unexpected answer: %v %v", messages, err)
	}
	if code := -int32(binary.NativeEndian.Uint32(messages[0].Data)); code != 0 {
		return syscall.Errno(code)
	}
	return nil
}

// packets captures every packet that is sent in this network, before anything can
// drop it (packet(7)). It notes each TCP connection that is asked for, and what
// its opener sends on it.
type packets struct {
	fd int

	mu      sync.Mutex
	flows   map[[2]netip.AddrPort]*flow
	order   []*flow
	marks   map[uint64]chan struct{}
	mark    uint64
	problem error
}

// flow is one connection, from the side that opened it.
type flow struct {
	to    netip.AddrPort
	from  net.IP
	next  uint32
	bytes []byte
}

// markPort is the port of the watcher's own datagrams: packets that were sent before one
// of them are captured before it.
const markPort = 9

func watchPackets() (*packets, error) {
	all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, syscall.ETH_P_ALL))
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, int(all))
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	// Beyond the system's bound where it may be.
	if syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, 64<<20) != nil {
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, 64<<20)
	}
	p := &packets{fd: fd, flows: make(map[[2]netip.AddrPort]*flow), marks: make(map[uint64]chan struct{})}
	go p.read()
	return p, nil
}

// read runs until the process ends.
func (p *packets) read() {
	buf := make([]byte, 128<<10)
	for {
		n, from, err := syscall.Recvfrom(p.fd, buf, 0)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			p.mu.Lock()
			p.problem = fmt.Errorf("watch packets: %w", err)
			p.mu.Unlock()
			return
		}
		// Each packet is seen twice on the loopback device: take it as it leaves.
		if link, ok := from.(*syscall.SockaddrLinklayer); ok && link.Pkttype == 4 {
			p.parse(buf[:n])
		}
	}
}

// parse parses one IP packet (RFC 791 section 3.1, RFC 8200 section 3, RFC
// 9293 section 3.1).
func (p *packets) parse(b []byte) {
	var src, dst netip.Addr
	var protocol byte
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		size := int(b[0]&15) * 4
		total := int(binary.BigEndian.Uint16(b[2:]))
		protocol, src, dst = b[9], netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		if total == 0 || total > len(b) { // left to the device
			total = len(b)
		}
		b = b[size:total]
	case len(b) >= 40 && b[0]>>4 == 6:
		protocol, src, dst = b[6], netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		b = b[40:]
	default:
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case protocol == syscall.IPPROTO_UDP && len(b) == 16 && binary.BigEndian.Uint16(b[2:]) == markPort:
		if seen := p.marks[binary.BigEndian.Uint64(b[8:])]; seen != nil {
			close(seen)
		}
	case protocol == syscall.IPPROTO_TCP && len(b) >= 20:
		from := netip.AddrPortFrom(src, binary.BigEndian.Uint16(b))
		to := netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:]))
		p.segment([2]netip.AddrPort{from, to}, binary.BigEndian.Uint32(b[4:]), b[13], b[int(b[12]>>4)*4:])
	}
}

func (p *packets) segment(ends [2]netip.AddrPort, sequence uint32, flags byte, payload []byte) {
	const syn, ack = 2, 16
	f := p.flows[ends]
	if flags&(syn|ack) == syn {
		if f != nil && f.next == sequence+1 {
			return // sent again
		}
		f = &flow{to: ends[1], from: ends[0].Addr().AsSlice(), next: sequence + 1}
		p.flows[ends] = f
		p.order = append(p.order, f)
		return
	}
	if f == nil || len(payload) == 0 {
		return
	}
	known := int32(f.next - sequence) // so much of it was there already
	if known < 0 || int(known) >= len(payload) {
		return
	}
	f.bytes = append(f.bytes, payload[known:]...)
	f.next = sequence + uint32(len(payload))
}

// since returns what was seen since the last call, once all of it was.
func (p *packets) since() ([]dialled, error) {
	p.mu.Lock()
	p.mark++
	seen := make(chan struct{})
	p.marks[p.mark] = seen
	message := binary.BigEndian.AppendUint64(nil, p.mark)
	p.mu.Unlock()
	conn, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: markPort})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if _, err := conn.Write(message); err != nil {
		return nil, err
	}
	<-seen
	if lost, err := p.lost(); err != nil || lost > 0 {
		return nil, fmt.Errorf("the watcher has lost %d packets, %v: nothing can be said about this", lost, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []dialled
	for _, f := range p.order {
		all = append(all, dialled{f.to, f.from, string(f.bytes)})
	}
	p.order = nil
	return all, p.problem
}

// lost is how many packets the kernel could not keep for us since the last call
// (PACKET_STATISTICS).
func (p *packets) lost() (uint32, error) {
	stats, err := unix.GetsockoptTpacketStats(p.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0, err
	}
	return stats.Drops, nil
}
