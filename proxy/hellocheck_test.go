package proxy

import (
	"crypto/tls"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/destination"
	"github.com/sallyport/sallyport/internal/proxytest"
)

// alert is a fatal TLS alert (RFC 8446 section 6).
func alert(description byte) string { return string([]byte{21, 3, 1, 0, 2, 2, description}) }

// TestHelloIsChecked sends what is not a hello for the target. The target, a real
// one, must not see a single byte.
func TestHelloIsChecked(t *testing.T) {
	other := clientHello("evil.example")
	tests := []struct {
		name, in string
		end      bool // the client ends its side
		want     Cause
		alert    string
	}{
		{"another name", string(other), false, CauseHelloMismatch, alert(112)},
		{"another name, fragmented", string(fragmented(other, 3)), false, CauseHelloMismatch, alert(112)},
		{"another name, and data", string(other) + string(record(23, make([]byte, 9000))), false, CauseHelloMismatch, alert(112)},
		{"a name below the target's", string(clientHello("x." + targetName)), false, CauseHelloMismatch, alert(112)},
		{"a name above the target's", string(clientHello("example")), false, CauseHelloMismatch, alert(112)},
		{"the target with two dots", string(built(sni(targetName + ".."))), false, CauseHelloMismatch, alert(112)},
		{"the target with a NUL", string(built(sni(targetName + "\x00"))), false, CauseHelloMismatch, alert(112)},
		{"the target with a Kelvin sign", string(built(sni(strings.Replace(targetName, "t", "\u212a", 1)))), false, CauseHelloMismatch, alert(112)},
		{"no name", string(clientHello("")), false, CauseHelloMissing, alert(109)},
		{"ECH", string(built(sni(targetName), extension(0xfe0d, []byte{0}))), false, CauseHelloEncrypted, alert(49)},
		{"two names", string(built(sni(targetName, "evil.example"))), false, CauseHelloInvalid, alert(50)},
		{"two extensions", string(built(sni(targetName), sni("evil.example"))), false, CauseHelloInvalid, alert(50)},
		{"an empty record", string(record(22, nil)), false, CauseHelloInvalid, alert(50)},
		{"too large", string([]byte{22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff}), false, CauseHelloTooLarge, alert(49)},
		{"HTTP", "GET / HTTP/1.1\r\nHost: " + targetName + "\r\n\r\n", false, CauseHelloInvalid, ""},
		{"SSH", "SSH-2.0-OpenSSH_9.2\r\n", false, CauseHelloInvalid, ""},
		{"SSLv2", "\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10", false, CauseHelloInvalid, ""},
		{"zeros", strings.Repeat("\x00", 100), false, CauseHelloInvalid, ""},
		{"half a hello", string(clientHello(targetName)[:100]), true, CauseHelloInvalid, alert(50)},
		{"one byte", "\x16", true, CauseHelloInvalid, alert(50)},
		{"nothing", "", true, CauseFinished, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			eachKind(t, func(t *testing.T, options ...tunnelOption) {
				for _, early := range []int{0, len(test.in) / 2, len(test.in)} {
					r := openTunnel(t, append(options, checked, withEarly([]byte(test.in[:early])))...)
					if rest := test.in[early:]; rest != "" {
						_, _ = io.WriteString(r.client, rest)
					}
					if test.end {
						_ = r.client.CloseWrite()
					}
					if got, _ := io.ReadAll(r.client); string(got) != test.alert {
						t.Errorf("the client read %x, want %x", got, test.alert)
					}
					_ = r.client.Close()
					if got, err := io.ReadAll(r.target); len(got) != 0 || test.want != CauseFinished && !errors.Is(err, syscall.ECONNRESET) {
						t.Errorf("the target read %q, %v", got, err)
					}
					r.wantOutcome(test.want, 0, 0)
				}
			})
		})
	}
}

// TestHelloCheckIsNeeded: without the check each of these would have arrived.
func TestHelloCheckIsNeeded(t *testing.T) {
	for _, in := range []string{"GET / HTTP/1.1\r\n\r\n", string(clientHello("evil.example"))} {
		r := openTunnel(t)
		_, _ = io.WriteString(r.client, in)
		wantRead(t, r.target, in)
	}
}

func TestHelloIsForwardedUnchanged(t *testing.T) {
	real := clientHello(targetName)
	for name, in := range map[string]string{
		"whole":             string(real),
		"in upper case":     string(built(sni(strings.ToUpper(targetName)))),
		"fragmented":        string(fragmented(real, 10)),
		"with early data":   string(real) + string(record(20, []byte{1})) + string(record(23, make([]byte, 10_000))),
		"early data, large": string(real) + strings.Repeat(string(record(23, make([]byte, 16000))), 10),
	} {
		t.Run(name, func(t *testing.T) {
			eachKind(t, func(t *testing.T, options ...tunnelOption) {
				for _, early := range []int{0, 1, len(in) / 2, len(in)} {
					r := openTunnel(t, append(options, checked, withEarly([]byte(in[:early])))...)
					go func() {
						_, _ = io.WriteString(r.client, in[early:])
						_ = r.client.CloseWrite()
					}()
					wantRead(t, r.target, in)
					wantEOF(t, r.target)
					_ = r.target.Close()
					r.wantOutcome(CauseFinished, int64(len(in)), 0)
				}
			})
		})
	}
}

// TestHelloInSegments sends a hello with a pause at every byte.
func TestHelloInSegments(t *testing.T) {
	in := clientHello(targetName)
	for cut := 1; cut < len(in); cut += 1 + len(in)/100 {
		r := openTunnel(t, checked)
		_ = tcpOf(r.client).SetNoDelay(true)
		write(t, r.client, in[:cut])
		proxytest.Eventually(t, "the first part was read", func() bool { return undelivered(tcpOf(r.client)) == 0 })
		write(t, r.client, in[cut:])
		wantRead(t, r.target, string(in))
		r.tracker.Close(CauseOperator, nil)
		r.wantOutcome(CauseOperator, int64(len(in)), 0)
	}
	r := openTunnel(t, checked)
	for b := range slices.Chunk(in, 1) {
		write(t, r.client, b)
	}
	wantRead(t, r.target, string(in))
}

func TestHelloTimeout(t *testing.T) {
	eachKind(t, func(t *testing.T, options ...tunnelOption) {
		for _, in := range []string{"", string(clientHello(targetName)[:50])} {
			r := openTunnel(t, append(options, checked, withConfig(TunnelConfig{HelloTimeout: 50 * time.Millisecond}))...)
			_, _ = io.WriteString(r.client, in)
			if got, err := io.ReadAll(r.target); len(got) != 0 || err == nil {
				t.Errorf("the target read %q, %v", got, err)
			}
			wantReset(t, tcpOf(r.client))
			r.wantOutcome(CauseHelloTimeout, 0, 0)
		}
	})
	t.Run("its timeout is not the tunnel's", func(t *testing.T) {
		const wait = 50 * time.Millisecond
		r := openTunnel(t, checked, withConfig(TunnelConfig{HelloTimeout: wait}))
		hello := clientHello(targetName)
		write(t, r.client, hello)
		wantRead(t, r.target, string(hello))
		<-time.NewTimer(2 * wait).C
		write(t, r.client, []byte("late"))
		wantRead(t, r.target, "late")
	})
}

func TestStoppedWhileWaitingForTheHello(t *testing.T) {
	eachKind(t, func(t *testing.T, options ...tunnelOption) {
		r := openTunnel(t, append(options, checked, withConfig(TunnelConfig{HelloTimeout: time.Hour}))...)
		write(t, r.client, clientHello(targetName)[:20])
		proxytest.Eventually(t, "it is open", func() bool { return r.tracker.Len() == 1 })
		r.tracker.Close(CauseOperator, nil)
		r.wantOutcome(CauseOperator, 0, 0)
	})
	t.Run("by the client's reset", func(t *testing.T) {
		r := openTunnel(t, checked)
		write(t, r.client, []byte{22})
		reset(t, r.client)
		r.wantOutcome(CauseClientClosed, 0, 0)
	})
}

// TestHelloForAnAddress: RFC 6066 section 3 has no names for addresses, so a
// client sends none; a name that is there must be the address nonetheless.
func TestHelloForAnAddress(t *testing.T) {
	for _, test := range []struct {
		hello []byte
		want  Cause
	}{
		{clientHello(""), CauseOperator},
		{built(sni("127.0.0.1")), CauseOperator},
		{built(sni("evil.example")), CauseHelloMismatch},
		{built(extension(0xfe0d, nil)), CauseHelloEncrypted},
	} {
		r := newTunnelEnv(t, checked)
		r.admitted.Target = destination.Target{Host: "127.0.0.1", Port: 443, Addr: netip.MustParseAddr("127.0.0.1")}
		r.start()
		write(t, r.client, test.hello)
		sent := int64(0)
		if test.want == CauseOperator {
			wantRead(t, r.target, string(test.hello))
			r.tracker.Close(CauseOperator, nil)
			sent = int64(len(test.hello))
		} else {
			_, _ = io.Copy(io.Discard, r.client)
			_ = r.client.Close()
		}
		r.wantOutcome(test.want, sent, 0)
	}
}

// TestHandshakeThroughATunnel is a real TLS session from end to end, with the
// name check on.
func TestHandshakeThroughATunnel(t *testing.T) {
	eachKind(t, func(t *testing.T, options ...tunnelOption) {
		r := openTunnel(t, append(options, checked)...)
		certificate, _ := proxytest.Certificate(t, targetName)
		server := tls.Server(r.target, &tls.Config{Certificates: []tls.Certificate{certificate}})
		client := tls.Client(r.client, &tls.Config{ServerName: targetName, InsecureSkipVerify: true})
		done := make(chan error, 1)
		go func() {
			_, err := io.WriteString(server, "hello")
			done <- err
		}()
		wantRead(t, client, "hello")
		if err := <-done; err != nil {
			t.Error(err)
		}
		_, _ = client.Close(), server.Close()
		r.outcome()
	})
	t.Run("refused with an alert that a client understands", func(t *testing.T) {
		r := openTunnel(t, checked)
		client := tls.Client(r.client, &tls.Config{ServerName: "evil.example", InsecureSkipVerify: true})
		err := client.Handshake()
		if a, ok := errors.AsType[tls.AlertError](err); !ok && (err == nil || !strings.Contains(err.Error(), "unrecognized name")) {
			t.Errorf("the client says %v, %v", err, a)
		}
		_ = r.client.Close()
		r.wantOutcome(CauseHelloMismatch, 0, 0)
	})
}
