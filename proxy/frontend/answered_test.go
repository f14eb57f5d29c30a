package frontend

import (
	"context"
	"errors"
	"io"
	"syscall"
	"testing"
	"time"
)

// TestConnectAnswerIsNeeded: without the time that a shutdown leaves for answers, a CONNECT
// that is being decided ends without one. undici connects again without end for this cause.
func TestConnectAnswerIsNeeded(t *testing.T) {
	s := start(t, func(s *env, c *Config, _ *ListenerConfig) {
		s.entered, s.hold = make(chan struct{}, 1), make(chan struct{})
		c.LingerTimeout = time.Nanosecond // the control is removed
	})
	c := s.dial(t).send("CONNECT up.test:443 HTTP/1.1\r\nProxy-Authorization: Bearer good\r\n\r\n")
	<-s.entered
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	down := make(chan struct{})
	go func() {
		defer close(down)
		s.gate.CloseAdmission()
		_ = s.server.Shutdown(ctx)
	}()
	b := make([]byte, 1)
	if n, err := c.Read(b); n > 0 || !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read %q, %v: the attack does not succeed", b[:n], err)
	}
	close(s.hold)
	<-down
}
