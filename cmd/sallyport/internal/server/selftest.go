package server

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/selftest"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// openSelfTest wraps the authenticator and the decider in the self-test's interceptor. The
// interceptor is there also where no test is ever made: the reserved names are then
// nobody's.
func (s *server) openSelfTest(context.Context) error {
	s.interceptor = selftest.NewProbeInterceptor(s.authenticator, s.policy.Engine())
	if s.config.SelfTest.Interval == 0 {
		return nil
	}
	var err error
	if s.echo, err = selftest.OpenEcho(); err != nil {
		return err
	}
	s.atClose(s.echo.Close)
	s.selfTest = selftest.New(selftest.Config{
		Interceptor: s.interceptor, Echo: s.echo, Dial: s.dialOurselves, Recorded: s.probeEvents, LogComplete: s.wholeLog, Record: s.audit.Record,
		Revision: func() policy.Revision { return s.policy.Engine().Current().Revision() },
		Interval: s.config.SelfTest.Interval, Log: s.log.With("component", "self_test"),
	})
	return nil
}

// withEcho adds the way to the echo, before all others: it is for that one name.
func (s *server) withEcho(via []*proxy.UpstreamProxy) ([]*proxy.UpstreamProxy, error) {
	if s.echo == nil {
		return via, nil
	}
	echo, err := s.echo.UpstreamProxy()
	if err != nil {
		return nil, err
	}
	return slices.Insert(via, 0, echo), nil
}

func (s *server) probeEvents(ctx context.Context, step string, since time.Time) ([]selftest.Recorded, error) {
	events, err := s.store.StepEvents(ctx, step, since)
	all := make([]selftest.Recorded, len(events))
	for i, e := range events {
		all[i] = selftest.Recorded(e)
	}
	return all, err
}

// dialOurselves connects to the first listener as a step would, up to where a
// request can be written.
func (s *server) dialOurselves(ctx context.Context) (_ net.Conn, from netip.Addr, err error) {
	if len(s.listeners) == 0 {
		return nil, from, errors.New("there is no listener")
	}
	l := s.listeners[0]
	at := l.Addr().(*net.TCPAddr).AddrPort()
	if at.Addr().IsUnspecified() {
		at = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), at.Port())
	}
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", at.String())
	if err != nil {
		return nil, from, err
	}
	defer func() {
		if err != nil {
			_ = conn.Close()
		}
	}()
	local := conn.LocalAddr().(*net.TCPAddr).AddrPort()
	from = local.Addr().Unmap()
	if slices.ContainsFunc(l.config.ProxyProtocolFrom, func(n netip.Prefix) bool { return n.Contains(from) }) {
		if err := sayWho(conn, from, local.Port(), at); err != nil {
			return nil, from, err
		}
	}
	if l.config.TLS == nil {
		return conn, from, nil
	}
	secured := tls.Client(conn, onlyOurs(l.config.TLS))
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, from, fmt.Errorf("TLS with our own listener: %w", err)
	}
	return secured, from, nil
}

// sayWho writes a PROXY protocol header, version 1 (haproxy's proxy-protocol.txt,
// section 2.1), with the addresses as they are.
func sayWho(conn net.Conn, from netip.Addr, port uint16, to netip.AddrPort) error {
	family := "TCP4"
	if from.Is6() {
		family = "TCP6"
	}
	_, err := fmt.Fprintf(conn, "PROXY %s %s %s %d %d\r\n", family, from, to.Addr().Unmap(), port, to.Port())
	return err
}

// onlyOurs accepts the certificate that this listener serves at the moment and no
// other, whatever names it has: who else has the port must not see the pass.
func onlyOurs(listener *tls.Config) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		InsecureSkipVerify: true, // VerifyConnection is stricter
		VerifyConnection: func(state tls.ConnectionState) error {
			own, err := listener.GetCertificate(&tls.ClientHelloInfo{})
			if err != nil {
				return err
			}
			if len(state.PeerCertificates) == 0 || len(own.Certificate) == 0 || !bytes.Equal(state.PeerCertificates[0].Raw, own.Certificate[0]) {
				return errors.New("it shows another certificate than ours")
			}
			return nil
		},
	}
}

// selfTestDetail is what /readyz tells. It does not make an instance unready: to
// take it away from the steps is for whoever reads this.
func (s *server) selfTestDetail() any {
	st := s.selfTest.Status()
	detail := map[string]any{"outcome": cmp.Or(string(st.Outcome), "none yet"), "at": cli.FormatTimeOrNever(st.At), "passed": cli.FormatTimeOrNever(st.Passed)}
	if st.Reason != "" {
		detail["why"] = st.Reason
	}
	return detail
}

func (s *server) selfTestGauges() {
	m, status := s.metrics, s.selfTest.Status
	m.CounterBy("sallyport_self_tests_total", "Self-tests, by outcome.", "outcome", labels(selftest.Outcomes), func(outcome string) float64 {
		return float64(status().Counts[selftest.Outcome(outcome)])
	})
	m.Gauge("sallyport_self_test_failed", "1 while the latest self-test failed: a control is not effective.", func() float64 {
		return one(status().Outcome == selftest.Failed)
	})
	m.Gauge("sallyport_self_test_last_success_timestamp_seconds", "When a self-test last passed; the start of this instance if none did.", func() float64 {
		passed := status().Passed
		if passed.IsZero() {
			passed = s.began
		}
		return unixSeconds(passed)
	})
}
