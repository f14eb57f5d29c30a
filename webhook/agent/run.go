package agent

import (
	"cmp"
	"context"
	"crypto/x509"
	"log/slog"
	"math"
	"net"
	"time"

	"github.com/sallyport/sallyport/webhook"
	"github.com/sallyport/sallyport/webhook/dispatch"
)

// Config configures an agent.
type Config struct {
	Client *Client
	// To is the local URL that deliveries are sent to. It is the agent's own configuration:
	// nothing that the gateway sends changes it.
	To      string
	RootCAs *x509.CertPool // for To; nil: those of the system
	Timeout time.Duration  // of an attempt; 0: 10 s
	Lease   time.Duration  // as configured at the gateway; 0: 60 s
	Timing  dispatch.Timing
	// DrainTimeout is how long attempts may last after the agent is stopped; 0: 30 s.
	DrainTimeout time.Duration
	Log          *slog.Logger // nil: none
}

// Run delivers until ctx ends, and then ends the attempts in progress.
func Run(ctx context.Context, c Config) error {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Timing.StoreMax = cmp.Or(c.Timing.StoreMax, time.Minute)
	sender, err := dispatch.NewSender(dispatch.SenderConfig{
		URL: c.To, Dial: new(net.Dialer).DialContext, Timeout: c.Timeout, RootCAs: c.RootCAs, Signed: true,
	})
	if err != nil {
		return err
	}
	defer sender.Close()
	d, err := dispatch.New(dispatch.Config{
		Store: loggedStore{c.Client, c.Client, c.Log}, Log: c.Log, Lease: cmp.Or(c.Lease, time.Minute), Timing: c.Timing, AbortClaims: true,
		// The gateway keeps the time budget.
		Endpoints: []dispatch.Endpoint{{Name: "agent", Label: c.Client.Endpoint, Send: sender.Send, RetryFor: math.MaxInt64}},
	})
	if err != nil {
		return err
	}
	go func() {
		<-ctx.Done()
		timeout := c.DrainTimeout
		if timeout == 0 {
			timeout = 30 * time.Second
		}
		draining, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		d.Shutdown(draining)
	}()
	d.Run(context.Background())
	return nil
}

// loggedStore logs each delivery that the endpoint accepted.
type loggedStore struct {
	webhook.Store
	client *Client
	log    *slog.Logger
}

// Done acknowledges a delivery, and logs it by its id, which the gateway's commands accept.
func (s loggedStore) Done(ctx context.Context, t webhook.Task, r webhook.TaskResult) error {
	err := s.Store.Done(ctx, t, r)
	if err == nil {
		s.log.Info("webhook delivered", "endpoint", s.client.Endpoint(), "delivery", t.Delivery, "attempt", t.Attempt, "status", r.Status, "duration", r.Duration)
	}
	return err
}
