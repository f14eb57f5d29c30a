package netcheck

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/stepapi"
)

// generous bounds a test whose address answers; no test waits for it.
const generous = MaxTimeout

// echo is a server on loopback, over TCP and UDP at the same port.
func echo(t *testing.T, respond func([]byte) []byte) string {
	t.Helper()
	for range 20 {
		tcp, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		udp, err := net.ListenPacket("udp4", tcp.Addr().String())
		if err != nil {
			tcp.Close() // another process has the port
			continue
		}
		t.Cleanup(func() { tcp.Close(); udp.Close() })
		go func() {
			for {
				conn, err := tcp.Accept()
				if err != nil {
					return
				}
				conn.Close()
			}
		}()
		go func() {
			b := make([]byte, 2048)
			for {
				n, from, err := udp.ReadFrom(b)
				if err != nil {
					return
				}
				_, _ = udp.WriteTo(respond(bytes.Clone(b[:n])), from)
			}
		}()
		return tcp.Addr().String()
	}
	t.Fatal("no port is free for TCP and UDP")
	return ""
}

// resolver sets the bit by which a DNS message is a response.
func resolver(b []byte) []byte {
	b[2] |= 0x80
	return b
}

func TestCheckFindsOpenPaths(t *testing.T) {
	t.Parallel()
	address := echo(t, resolver)
	check, err := Check(t.Context(), Config{
		TCP: []string{address}, UDP: []string{address}, DNS: []string{address}, Metadata: []string{address},
		Timeout: generous, loopback: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, r := range check.Results {
		kinds = append(kinds, r.Test+" "+r.Network)
		if r.Outcome != stepapi.OutcomeOpen || r.Detail == "" || r.Address != address {
			t.Errorf("%s: %s %s %s", r.Test, r.Address, r.Outcome, r.Detail)
		}
	}
	if got := strings.Join(kinds, ", "); got != "direct_tcp tcp4, direct_udp udp4, dns_udp udp4, dns_tcp tcp4, metadata tcp4" {
		t.Error(got)
	}
}

// TestRefusedIsNotBlocked: a refused connection left the step as far as the check knows.
func TestRefusedIsNotBlocked(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	check, err := Check(t.Context(), Config{TCP: []string{address}, Timeout: generous, loopback: true})
	if err != nil || len(check.Results) != 1 || check.Results[0].Outcome != stepapi.OutcomeError {
		t.Errorf("%+v, %v", check, err)
	}
}

// TestOtherDatagramsAreNoResponse: a resolver that only echoes has not answered.
func TestOtherDatagramsAreNoResponse(t *testing.T) {
	t.Parallel()
	address := echo(t, func(b []byte) []byte { return b })
	check, err := Check(t.Context(), Config{DNS: []string{address}, Timeout: 50 * time.Millisecond, loopback: true})
	if err != nil || len(check.Results) != 2 || check.Results[0].Outcome != stepapi.OutcomeBlocked {
		t.Errorf("%+v, %v", check, err)
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	wrapped := func(err error) error {
		return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", err)}
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, stepapi.OutcomeOpen},
		{wrapped(syscall.EHOSTUNREACH), stepapi.OutcomeBlocked}, {wrapped(syscall.ENETUNREACH), stepapi.OutcomeBlocked}, {wrapped(syscall.EPERM), stepapi.OutcomeBlocked},
		{wrapped(syscall.EADDRNOTAVAIL), stepapi.OutcomeBlocked}, {wrapped(syscall.ETIMEDOUT), stepapi.OutcomeBlocked}, {os.ErrDeadlineExceeded, stepapi.OutcomeBlocked},
		{context.DeadlineExceeded, stepapi.OutcomeBlocked},
		{wrapped(syscall.ECONNREFUSED), stepapi.OutcomeError}, {wrapped(syscall.ECONNRESET), stepapi.OutcomeError}, {context.Canceled, stepapi.OutcomeError}, {wrapped(syscall.EMFILE), stepapi.OutcomeError},
	} {
		if got, detail := judge("it answered", c.err, time.Second); got != c.want || detail == "" {
			t.Errorf("%v: %s (%s), want %s", c.err, got, detail, c.want)
		}
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	t.Parallel()
	many := make([]string, MaxTests/2+1)
	for i := range many {
		many[i] = fmt.Sprintf("192.0.2.%d", i+1)
	}
	for want, c := range map[string]Config{
		"no address to test":                                             {},
		`--tcp: "example.com:443" is not an IP address`:                  {TCP: []string{"example.com:443"}},
		`--tcp: "a\x1b[2J" is not an IP address`:                         {TCP: []string{"a\x1b[2J"}},
		`--udp: "192.0.2.1:0" has port 0`:                                {UDP: []string{"192.0.2.1:0"}},
		`--udp: "127.0.0.11" is inside the step`:                         {UDP: []string{"127.0.0.11"}},
		`--tcp: "::ffff:127.0.0.1" is inside the step`:                   {TCP: []string{"::ffff:127.0.0.1"}},
		`--metadata: "0.0.0.0" is not an address of one host`:            {Metadata: []string{"0.0.0.0"}},
		`--tcp: "ff02::1" is not an address of one host`:                 {TCP: []string{"ff02::1"}},
		`--tcp: "fe80::1%eth0" has a zone`:                               {TCP: []string{"fe80::1%eth0"}},
		`--ipv6: 192.0.2.1 is not an IPv6 address`:                       {IPv6: []string{"192.0.2.1"}},
		fmt.Sprintf("%d tests: give addresses for at most", 2*len(many)): {DNS: many},
		"--timeout: 1m0s is out of range":                                {TCP: []string{"192.0.2.1"}, Timeout: time.Minute},
	} {
		if _, err := Check(t.Context(), c); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	got, err := ParseAddress("2001:db8::1", 443, false)
	if err != nil || got != netip.MustParseAddrPort("[2001:db8::1]:443") {
		t.Errorf("%v, %v", got, err)
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	address := echo(t, resolver)
	run := func(c Config) (string, error) {
		c.Timeout, c.loopback = generous, true
		var out strings.Builder
		err := Run(t.Context(), c, &out)
		return out.String(), err
	}
	var sent *stepapi.NetworkCheck
	record := func(_ context.Context, r *stepapi.NetworkCheck) error { sent = r; return nil }
	out, err := run(Config{TCP: []string{address}, Send: record})
	want := "open    direct_tcp  " + address + "  the connection was accepted\n" +
		"sallyport-step: 1 of 1 tests reach the network around the proxy: install the firewall rules of deploy/runner\n"
	if out != want || !errors.Is(err, ErrNotEnforced) || sent.Validate() != nil || sent.Outcome() != stepapi.OutcomeOpen {
		t.Errorf("%q, %v, sent %v", out, err, sent)
	}
	fail := func(context.Context, *stepapi.NetworkCheck) error { return errors.New("the proxy does not answer") }
	out, err = run(Config{TCP: []string{address}, JSON: true, Send: fail})
	var r report
	if json.Unmarshal([]byte(out), &r) != nil || r.Open != 1 || r.Recorded || r.Problem == "" || !errors.Is(err, ErrNotEnforced) {
		t.Errorf("%s, %v", out, err)
	}
	// Where no IPv6 address leads out, the kernel rejects the packet itself.
	if _, err := net.Dial("tcp6", "[2001:db8::7]:443"); errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EADDRNOTAVAIL) {
		if out, err := run(Config{IPv6: []string{"2001:db8::7"}, Send: record}); err != nil || !strings.HasSuffix(out, "sallyport-step: all tests are blocked\n") {
			t.Errorf("%q, %v", out, err)
		}
		if out, err := run(Config{IPv6: []string{"2001:db8::7"}, Send: fail}); !errors.Is(err, ErrNotEnforced) || !strings.Contains(out, "not in the audit log") {
			t.Errorf("an unrecorded result passes: %q, %v", out, err)
		}
	}
}

// TestInterruptedIsNotBlocked: a check that was interrupted shows nothing.
func TestInterruptedIsNotBlocked(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	check, err := Check(ctx, Config{TCP: []string{"192.0.2.1"}})
	if err != nil || len(check.Results) != 1 || check.Results[0].Outcome != stepapi.OutcomeError {
		t.Errorf("%+v, %v", check, err)
	}
}

func FuzzIsResponse(f *testing.F) {
	query, id := newQuery()
	f.Add(query, id)
	f.Add(resolver(bytes.Clone(query)), id)
	f.Add([]byte{}, uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, id uint16) {
		if isResponse(b, id) && (len(b) < dnsHeaderSize || binary.BigEndian.Uint16(b) != id || b[2] < 0x80) {
			t.Errorf("%x is taken for a response to %d", b, id)
		}
	})
}
