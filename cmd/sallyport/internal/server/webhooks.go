package server

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/webhookserver"
	"github.com/sallyport/sallyport/internal/bitbucketapi"
	"github.com/sallyport/sallyport/internal/certificate"
)

// listenWebhooks binds the address of the webhook listener.
func (s *server) listenWebhooks(context.Context) error {
	if s.config.Webhooks == nil {
		return nil
	}
	c := s.config.Webhooks.Listener
	if c.TLS != nil {
		loaded, err := certificate.Load(c.TLS.CertificateFile, c.TLS.KeyFile, s.log)
		if err != nil {
			return err
		}
		s.webhooksTLS = loaded.TLSConfig()
	}
	l, err := s.bind(c.Address)
	if err != nil {
		return fmt.Errorf("listen on %s: %w; choose another webhooks.listener.address, or end what has it", c.Address, err)
	}
	s.atClose(func() { _ = l.Close() })
	s.webhooksAt = l
	return nil
}

// openWebhooks creates the gateway. Its last counts are recorded before the log is closed.
func (s *server) openWebhooks(context.Context) error {
	if s.config.Webhooks == nil {
		return nil
	}
	http, affects := bitbucketapi.NewHTTP(nil, time.Now), webhookserver.AffectsPolicy(&s.config.Policy)
	gateway, err := webhookserver.New(webhookserver.Config{
		Webhooks: s.config.Webhooks, TLS: s.webhooksTLS, Policy: policyRefreshes{s.policy.Engine(), affects}, AffectsPolicy: affects,
		Queue: s.webhookQueue, Agents: s.delivery.Agents(), Record: s.audit.Record,
		FetchNetworks: func(ctx context.Context, url string) ([]byte, error) { return http.Get(ctx, url, "") },
		NetworksFile:  filepath.Join(s.config.DataDirectory, "atlassian-networks.json"),
		Panicked: func(p any) {
			s.metrics.Panicked("webhooks")
			s.log.Error("webhook request failed: panic", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		},
		Log: s.log.With("component", "webhooks"),
	})
	if err != nil {
		return cli.Invalid(err)
	}
	s.webhooks = gateway
	s.atClose(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		gateway.Flush(ctx)
	})
	return nil
}

// runWebhooks serves deliveries until [server.drainWebhooks].
func (s *server) runWebhooks(ctx context.Context, failed chan<- error, routine func(func())) {
	if s.webhooks == nil {
		return
	}
	routine(func() {
		if err := s.webhooks.Serve(s.webhooksAt); err != nil {
			failed <- listenerEnded("webhooks.listener.address "+s.config.Webhooks.Listener.Address, err)
		}
	})
	routine(func() { s.webhooks.Run(ctx) })
	s.log.Info("listening for webhooks", "address", s.webhooksAt.Addr().String(), "tls", s.webhooksTLS != nil)
}

// drainWebhooks accepts no further delivery, and waits until those in progress are answered.
func (s *server) drainWebhooks(ctx context.Context) {
	if s.webhooks == nil {
		return
	}
	if err := s.webhooks.Shutdown(ctx); err != nil {
		s.log.Warn("webhook connections were closed at the end of the drain timeout", "error", err)
	}
}
