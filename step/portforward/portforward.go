// Package portforward connects raw TCP to a target through Sallyport: a local port for
// clients without proxy support, such as those of databases, and the standard input and output
// of a ProxyCommand of ssh.
package portforward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"github.com/sallyport/sallyport/internal/printable"
)

// Stream is a tunnel whose directions end separately.
type Stream interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// Spec is one forwarded port.
type Spec struct {
	Local  netip.AddrPort // on loopback; port 0: any free port
	Target string         // host:port
}

func (s Spec) String() string { return s.Local.String() + ":" + s.Target }

// ParseSpec reads [ADDRESS:]PORT:HOST:PORT, such as 5432:db.example:5432 or
// 127.0.0.2:5432:[2001:db8::1]:5432. The address is on loopback; without one it is
// 127.0.0.1.
func ParseSpec(s string) (Spec, error) {
	fail := func(why string) (Spec, error) {
		return Spec{}, fmt.Errorf("%s is not a forwarded port: %s: write PORT:HOST:PORT, such as 5432:db.example:5432", printable.Quote(s), why)
	}
	local, target, found := strings.Cut(s, ":")
	address := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if strings.HasPrefix(s, "[") || strings.Contains(local, ".") {
		end := strings.Index(s, "]") + 1
		if end == 0 {
			end = len(local)
		}
		given, err := netip.ParseAddr(strings.Trim(s[:end], "[]"))
		if err != nil || !given.IsLoopback() {
			return fail("the local address is not on loopback")
		}
		address = given
		local, target, found = strings.Cut(strings.TrimPrefix(s[end:], ":"), ":")
	}
	port, err := strconv.ParseUint(local, 10, 16)
	if !found || err != nil {
		return fail("the local port is missing or not a number to 65535")
	}
	if err := CheckTarget(target); err != nil {
		return fail(err.Error())
	}
	return Spec{netip.AddrPortFrom(address, uint16(port)), target}, nil
}

// CheckTarget refuses a target that is not HOST:PORT. Sallyport decides about the spelling
// of the host.
func CheckTarget(target string) error {
	host, port, err := net.SplitHostPort(target)
	if err != nil || host == "" || strings.ContainsFunc(target, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return errors.New("the target is not HOST:PORT")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return errors.New("the port of the target is not a number from 1 to 65535")
	}
	return nil
}

// Config configures the connections of a forwarded port. All fields are required.
type Config struct {
	// Connect opens a tunnel to the target. It prints a refusal or a failure itself.
	Connect func(ctx context.Context, target string) (Stream, error)
	// Admit reports whether the peer of a connection may use the port. Nothing is read from
	// a connection before. Admit prints the cause itself.
	Admit func(net.Conn) bool
}

// maxConnections bounds the connections of one forwarded port. More wait.
const maxConnections = 256

// Serve accepts connections and connects each to the target, until the context ends. It
// closes the listener, and returns when all connections are closed.
func Serve(ctx context.Context, l net.Listener, target string, c Config) error {
	ctx, cancel := context.WithCancel(ctx)
	var routines sync.WaitGroup
	defer routines.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	slots := make(chan struct{}, maxConnections)
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("forward: accept: %w", err)
		}
		slots <- struct{}{}
		routines.Go(func() {
			defer func() { <-slots }()
			serveOne(ctx, conn.(*net.TCPConn), target, c)
		})
	}
}

func serveOne(ctx context.Context, conn *net.TCPConn, target string, c Config) {
	defer conn.Close()
	if !c.Admit(conn) {
		return
	}
	if stream, err := c.Connect(ctx, target); err == nil {
		Relay(ctx, stream, conn, conn, conn.CloseWrite)
	}
}

// Relay copies in to the tunnel and the tunnel to out, and passes on the end of each
// direction. It returns when the tunnel's direction has ended, or the context; the caller
// then closes in, on which Relay may still be reading.
func Relay(ctx context.Context, tunnel Stream, in io.Reader, out io.Writer, closeOut func() error) {
	stop := context.AfterFunc(ctx, func() { _ = tunnel.Close() })
	defer stop()
	defer tunnel.Close()
	go func() {
		if _, err := io.Copy(tunnel, in); err != nil {
			_ = tunnel.Close() // the reader of the tunnel must not take this for an end
			return
		}
		_ = tunnel.CloseWrite()
	}()
	if _, err := io.Copy(out, tunnel); err == nil {
		_ = closeOut()
	}
}
