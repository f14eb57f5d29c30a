package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// Dialer opens connections to addresses that a decision has pinned, and to no others. It
// uses neither DNS nor the environment.
type Dialer struct {
	Timeout time.Duration // for all addresses together; 0: 10 s
	Stagger time.Duration // between one address and the next (RFC 8305 section 5); 0: 250 ms

	guard *Guard
}

// errProhibited is an address that came to be dialed although it must not be.
var errProhibited = errors.New("address is not one that was pinned, or must not be dialed")

// dial connects to the first pinned address that answers: IPv6 and IPv4 in
// turn, one after the other with a head start (RFC 8305).
func (d *Dialer) dial(ctx context.Context, pinned []netip.AddrPort) (*net.TCPConn, error) {
	return d.connect(ctx, pinned, func(address string) error { return d.check(address, pinned) })
}

// connect connects to the first address that answers; check is asked about each.
func (d *Dialer) connect(ctx context.Context, to []netip.AddrPort, check func(address string) error) (*net.TCPConn, error) {
	if len(to) == 0 || d.guard == nil {
		return nil, errProhibited
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(d.Timeout, 10*time.Second))
	defer cancel()
	dialer := net.Dialer{
		KeepAlive: -1, // see keepAlive
		Control: func(_, address string, _ syscall.RawConn) error {
			return check(address)
		},
	}
	if len(to) == 1 {
		return dialOne(ctx, &dialer, to[0])
	}
	return d.race(ctx, &dialer, interleave(to))
}

// keepAliveAfter is the age at which a tunnel's connection to its target gets keepalive, and
// the interval of its probes. Most tunnels end before, and keepalive takes four system calls.
const keepAliveAfter = 15 * time.Second

// keepAlive enables TCP keepalive, so that the kernel detects a target that is gone without
// closing.
func keepAlive(conn *net.TCPConn) {
	if conn != nil {
		// An error means that the connection has ended, which its next use reports.
		_ = conn.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepAliveAfter, Interval: keepAliveAfter})
	}
}

// check is called with the address that the kernel is about to connect to. It fails
// closed: an address that does not parse is refused.
func (d *Dialer) check(address string, pinned []netip.AddrPort) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %q does not parse", errProhibited, address)
	}
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	if !slices.Contains(pinned, to) {
		return fmt.Errorf("%w: %s", errProhibited, to)
	}
	if class := d.guard.Classify(to); !class.Permits() {
		return fmt.Errorf("%w: %s is %s", errProhibited, to, class)
	}
	return nil
}

// dialOne connects to one address. Dialer.DialTCP would bind a local port even for the
// zero local address, and a bound port is in use for all targets at once: the range would
// be used up by all tunnels together instead of per target.
func dialOne(ctx context.Context, dialer *net.Dialer, to netip.AddrPort) (*net.TCPConn, error) {
	conn, err := dialer.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

type dialResult struct {
	conn *net.TCPConn
	err  error
}

func (d *Dialer) race(ctx context.Context, dialer *net.Dialer, order []netip.AddrPort) (*net.TCPConn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan dialResult, len(order))
	next := time.NewTimer(0)
	defer next.Stop()
	started, finished := 0, 0
	var errs []error
	for finished < len(order) {
		var start <-chan time.Time
		if started < len(order) {
			start = next.C
		}
		select {
		case <-start:
			to := order[started]
			started++
			go func() {
				conn, err := dialOne(ctx, dialer, to)
				results <- dialResult{conn, err}
			}()
			next.Reset(cmp.Or(d.Stagger, 250*time.Millisecond))
		case r := <-results:
			finished++
			if r.err == nil {
				cancel()
				go discard(results, started-finished)
				return r.conn, nil
			}
			errs = append(errs, r.err)
			next.Reset(0)
		}
	}
	return nil, errors.Join(errs...)
}

// discard closes the connections that lost the race.
func discard(results <-chan dialResult, n int) {
	for range n {
		if r := <-results; r.conn != nil {
			_ = r.conn.Close()
		}
	}
}

// interleave orders addresses so that the families take turns, IPv6 first
// (RFC 8305 section 4); inside a family the resolver's order stays.
func interleave(pinned []netip.AddrPort) []netip.AddrPort {
	var six, four []netip.AddrPort
	for _, p := range pinned {
		if p.Addr().Is4() {
			four = append(four, p)
		} else {
			six = append(six, p)
		}
	}
	out := make([]netip.AddrPort, 0, len(pinned))
	for len(six) > 0 || len(four) > 0 {
		if len(six) > 0 {
			out, six = append(out, six[0]), six[1:]
		}
		if len(four) > 0 {
			out, four = append(out, four[0]), four[1:]
		}
	}
	return out
}
