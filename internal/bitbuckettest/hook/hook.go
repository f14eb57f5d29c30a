// Package hook sends webhook deliveries as Bitbucket Cloud and Bitbucket Data Center do:
// header fields, signature, timeout, resends and circuit breaker. It does not know what the
// deliveries are about: package bitbuckettest makes their bodies.
//
// Sources: support.atlassian.com/bitbucket-cloud/docs/manage-webhooks and
// troubleshoot-webhooks; confluence.atlassian.com/bitbucketserver/manage-webhooks. Where the
// behavior is not documented, it is a field of [Config], or the form that is harder on the
// receiver.
package hook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/uuid"
)

// Product is what sends the deliveries. The zero value is Bitbucket Cloud.
type Product uint8

// The products.
const (
	Cloud Product = iota
	DataCenter
)

// Limits of the products.
const (
	Timeout      = 10 * time.Second // for a response, of both products
	Resends      = 2                // Cloud, after a 5xx status
	MaxCloudBody = 256 << 10        // Cloud does not send a larger one
	maxInFlight  = 250              // Data Center skips what exceeds it

	// Data Center skips deliveries to a hook that failed so often in a row, first for
	// breakerMin, then for twice as long after each further failure, at most for breakerMax.
	breakerFailures = 5
	breakerMin      = 10 * time.Second
	breakerMax      = 10 * time.Hour
)

// Config is a webhook's configuration.
type Config struct {
	Product Product
	URL     string
	Secret  string   // empty: deliveries are not signed
	Events  []string // sent; none: all

	UUID    string           // of the hook, bare; empty: random
	RootCAs *x509.CertPool   // of the receiver's certificate; nil: the system's
	Timeout time.Duration    // for a response; 0: [Timeout]
	NewUUID func() string    // nil: random
	Now     func() time.Time // of the circuit breaker; nil: time.Now

	// ResendTimeouts sends a delivery again that had no response. Whether Cloud does is not
	// documented.
	ResendTimeouts bool
	// BeforeAttempt is called before each attempt with its number, from 1, and may block. It
	// stands for the time that passes between attempts, which is not documented.
	BeforeAttempt func(number int)
}

// Attempt is one request.
type Attempt struct {
	Number int
	Header http.Header // of the request
	Status int         // of the response; 0: none
	Answer string      // the response's body, at most 1 KiB
	Err    error       // why there is no response
}

// Delivery is one event with its attempts.
type Delivery struct {
	Event       string
	RequestUUID string // the same in all attempts
	Body        []byte
	Attempts    []Attempt
	Skipped     string // why it was not sent; empty: it was
	Ended       bool
}

// Accepted reports whether the last attempt was answered with 2xx.
func (d Delivery) Accepted() bool {
	return len(d.Attempts) > 0 && d.Attempts[len(d.Attempts)-1].Status/100 == 2
}

// Sender sends the deliveries of one webhook, one after another. It is safe for concurrent
// use.
type Sender struct {
	client *http.Client
	ctx    context.Context
	cancel context.CancelFunc
	ended  chan struct{}

	mu         sync.Mutex
	config     Config
	deliveries []*Delivery
	next       int // the first that has not ended
	lose       int // so many of the next ones are lost
	failures   int // in a row
	skipUntil  time.Time
	changed    chan struct{} // closed and replaced at every change
	closed     bool
}

// New returns a sender. The caller must call [Sender.Close].
func New(c Config) *Sender {
	if c.NewUUID == nil {
		c.NewUUID = uuid.NewV4
	}
	if c.UUID == "" {
		c.UUID = c.NewUUID()
	}
	if c.Timeout == 0 {
		c.Timeout = Timeout
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Events = slices.Clone(c.Events)
	s := &Sender{config: c, client: newClient(c), changed: make(chan struct{}), ended: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	go s.run()
	return s
}

// Config returns the present configuration.
func (s *Sender) Config() Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config
}

// Update changes URL, secret, events or BeforeAttempt of the configuration.
func (s *Sender) Update(change func(*Config)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.config)
}

// Lose loses the next n deliveries: they are never sent.
func (s *Sender) Lose(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lose = n
}

// Send queues a delivery, unless the hook does not send the event.
func (s *Sender) Send(event string, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.config.Events) > 0 && !slices.Contains(s.config.Events, event) && event != Ping {
		return
	}
	d := &Delivery{Event: event, RequestUUID: s.config.NewUUID(), Body: slices.Clone(body)}
	switch {
	case s.lose > 0:
		s.lose--
		d.Skipped = "lost"
	case s.config.Product == Cloud && len(body) > MaxCloudBody:
		d.Skipped = fmt.Sprintf("the body has %d bytes, and Cloud sends at most %d", len(body), MaxCloudBody)
	case s.config.Product == DataCenter && len(s.deliveries)-s.next >= maxInFlight:
		d.Skipped = "too many deliveries are in flight"
	case s.config.Product == DataCenter && s.config.Now().Before(s.skipUntil):
		d.Skipped = "the hook is unhealthy"
	}
	d.Ended = d.Skipped != ""
	s.deliveries = append(s.deliveries, d)
	s.notify()
}

// Ping is the event of Data Center's connection test.
const Ping = "diagnostics:ping"

// SendPing queues Data Center's connection test, which is not signed.
func (s *Sender) SendPing() { s.Send(Ping, []byte(`{"test": true}`)) }

// Deliveries returns all deliveries, the oldest first.
func (s *Sender) Deliveries() []Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.copies()
}

func (s *Sender) copies() []Delivery {
	all := make([]Delivery, len(s.deliveries))
	for i, d := range s.deliveries {
		all[i] = *d
		all[i].Attempts = slices.Clone(d.Attempts)
	}
	return all
}

// Wait returns all deliveries once n or more have ended. It fails if ctx ends first.
func (s *Sender) Wait(ctx context.Context, n int) ([]Delivery, error) {
	for {
		s.mu.Lock()
		ended := 0
		for _, d := range s.deliveries {
			if d.Ended {
				ended++
			}
		}
		all, changed := s.copies(), s.changed
		s.mu.Unlock()
		if ended >= n {
			return all, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return all, fmt.Errorf("wait for %d deliveries: %d have ended: %w", n, ended, ctx.Err())
		}
	}
}

// notify wakes those who wait. The caller holds mu.
func (s *Sender) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Close ends the delivery under way and sends nothing more. It may be called twice.
func (s *Sender) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	<-s.ended
	s.client.CloseIdleConnections()
}

// Signature returns the value of X-Hub-Signature: the HMAC-SHA256 of the raw body.
func Signature(secret string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}
