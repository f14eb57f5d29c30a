package server

import (
	"cmp"
	"context"
	"errors"
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
// interceptor is also there if the self-test is off: every principal is then denied the
// reserved names.
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

// dialOurselves connects to the first listener.
func (s *server) dialOurselves(ctx context.Context) (net.Conn, netip.Addr, error) {
	if len(s.listeners) == 0 {
		return nil, netip.Addr{}, errors.New("there is no listener")
	}
	l := s.listeners[0]
	own := selftest.Listener{Address: l.Addr().(*net.TCPAddr).AddrPort(), TLS: l.config.TLS, ProxyProtocolFrom: l.config.ProxyProtocolFrom}
	return own.Dial(ctx)
}

// selfTestDetail is a detail of /readyz. A failed self-test does not make an instance
// unready: the operator decides whether it serves on.
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
