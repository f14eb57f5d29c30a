package hook

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"strconv"
	"time"
)

func newClient(c Config) *http.Client {
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.RootCAs, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// run sends deliveries until the sender is closed.
func (s *Sender) run() {
	defer close(s.ended)
	for {
		s.mu.Lock()
		for s.next < len(s.deliveries) && s.deliveries[s.next].Ended {
			s.next++
		}
		var d *Delivery
		if s.next < len(s.deliveries) {
			d = s.deliveries[s.next]
		}
		changed := s.changed
		s.mu.Unlock()
		if d != nil {
			s.deliver(d)
			continue
		}
		select {
		case <-changed:
		case <-s.ctx.Done():
			return
		}
	}
}

// deliver sends one delivery until it is accepted or given up.
func (s *Sender) deliver(d *Delivery) {
	for number := 1; ; number++ {
		c := s.Config()
		if c.BeforeAttempt != nil {
			c.BeforeAttempt(number)
			c = s.Config() // it may have changed meanwhile
		}
		a := s.attempt(c, d, number)
		again := c.Product == Cloud && number <= Resends && (a.Status/100 == 5 || a.Status == 0 && c.ResendTimeouts) && s.ctx.Err() == nil
		s.mu.Lock()
		d.Attempts = append(d.Attempts, a)
		if d.Ended = !again; d.Ended {
			s.judge(a)
		}
		s.notify()
		s.mu.Unlock()
		if !again {
			return
		}
	}
}

// judge is Data Center's circuit breaker. The caller holds mu.
func (s *Sender) judge(a Attempt) {
	if a.Status/100 == 2 {
		s.failures, s.skipUntil = 0, time.Time{}
		return
	}
	if s.failures++; s.failures >= breakerFailures {
		s.skipUntil = s.config.Now().Add(min(breakerMax, breakerMin<<min(s.failures-breakerFailures, 16)))
	}
}

// attempt sends one request.
func (s *Sender) attempt(c Config, d *Delivery, number int) Attempt {
	a := Attempt{Number: number, Header: header(c, d, number)}
	ctx, cancel := context.WithTimeout(s.ctx, c.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, bytes.NewReader(d.Body))
	if err != nil {
		a.Err = err
		return a
	}
	req.Header = a.Header.Clone()
	resp, err := s.client.Do(req)
	if err != nil {
		a.Err = err
		return a
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	a.Status, a.Answer, a.Err = resp.StatusCode, string(text), err
	return a
}

func header(c Config, d *Delivery, number int) http.Header {
	h := http.Header{}
	h.Set("X-Event-Key", d.Event)
	if c.Product == Cloud {
		h.Set("Content-Type", "application/json")
		h.Set("User-Agent", "Bitbucket-Webhooks/2.0")
		h.Set("X-Hook-UUID", c.UUID)
		h.Set("X-Request-UUID", d.RequestUUID)
		h.Set("X-Attempt-Number", strconv.Itoa(number))
	} else {
		h.Set("Content-Type", "application/json; charset=utf-8")
		h.Set("User-Agent", "Atlassian HttpClient 4.2.0 / Bitbucket-9.5.2 (9005002) / Default")
		h.Set("X-Request-Id", d.RequestUUID)
	}
	if c.Secret != "" && d.Event != Ping {
		h.Set("X-Hub-Signature", Signature(c.Secret, d.Body))
	}
	return h
}
