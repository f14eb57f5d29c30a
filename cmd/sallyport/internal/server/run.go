package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/systemd"
	"github.com/sallyport/sallyport/policy/rego"
	"github.com/sallyport/sallyport/proxy"
)

// run accepts connections until ctx ends, then drains and ends everything.
func (s *server) run(ctx context.Context, reload <-chan os.Signal) error {
	background, stopBackground := context.WithCancel(context.Background())
	var routines sync.WaitGroup
	s.atClose(func() {
		stopBackground()
		routines.Wait()
	})
	defer s.close()
	failed := make(chan error, len(s.listeners)+4)
	for _, l := range s.listeners {
		routines.Go(func() {
			if err := s.front.Serve(l.Listener, l.config); err != nil {
				failed <- listenerEnded("listener "+l.config.Name, err)
			}
			close(l.served)
		})
		s.log.Info("listening", "address", l.Addr().String(), "tls", l.config.TLS != nil)
	}
	if s.adminAt != nil {
		routines.Go(func() {
			if err := s.admin.Serve(s.adminAt); err != nil {
				failed <- listenerEnded("admin.address "+s.config.Admin.Address, err)
			}
		})
		s.log.Info("admin listening", "address", s.adminAt.Addr().String())
	}
	s.runDelivery(background, routines.Go)
	s.runWebhooks(background, failed, routines.Go)
	routines.Go(func() {
		if err := s.control.Serve(s.controlAt); err != nil {
			failed <- listenerEnded("control socket "+s.controlAt.Addr().String(), err)
		}
	})
	routines.Go(func() {
		_ = s.store.Run(background)
		s.reassignments.Close() // nothing else writes names
	})
	routines.Go(s.reassignments.Run)
	routines.Go(func() { s.fetchBuilds(background) })
	if s.reconciler != nil {
		routines.Go(func() { s.reconciler.Run(background) })
	}
	if s.approvals != nil {
		routines.Go(func() { s.approvals.Run(background) })
	}
	if s.selfTest != nil {
		routines.Go(func() { s.selfTest.Run(background) })
	}
	routines.Go(func() { s.totals.Run(background) })
	routines.Go(func() { s.recordSecretAges(background) })
	routines.Go(func() { s.gate.RunRepeats(background) })
	s.sealing = true
	routines.Go(func() { s.sealer.Run(background) })
	routines.Go(func() { s.attester.Run(background) })
	routines.Go(func() { _ = s.store.Watch(background, s.closeRevoked) })
	routines.Go(func() {
		if err := s.authenticator.Run(background); err != nil {
			failed <- fmt.Errorf("identity: %w", err)
		}
	})
	routines.Go(func() { s.reevaluator.Run(background) })
	routines.Go(func() { s.policy.Follow(background, reload) })
	routines.Go(func() { s.watchWebhookRefreshes(background) })
	routines.Go(func() { s.policy.WarnUnknownRepositories(background, s.repositories) })
	routines.Go(func() { s.notify.Watch(background, s.probes()) })
	s.notify.Ready("serving")

	err := s.wait(ctx, failed)
	s.drain()
	return err
}

// listenerEnded is the error for a listening socket on which nothing more is accepted,
// although the server is not shutting down.
func listenerEnded(name string, err error) error {
	return fmt.Errorf("accept connections on %s: the listening socket was closed or shut down from outside: %w: start the server again; if a service manager opens the socket, restart the socket's unit first", name, err)
}

// wait returns when the server is to end: asked to, or because it cannot continue.
// A database that is gone does not end it: refusals go to the journal.
func (s *server) wait(ctx context.Context, failed <-chan error) error {
	var databaseEnded <-chan struct{}
	if s.database != nil {
		databaseEnded = s.database.Done()
	}
	select {
	case <-ctx.Done():
		s.log.Info("shutting down", "drain_timeout", s.config.Shutdown.DrainTimeout.String(), "tunnels", s.tracker.Len())
		return nil
	case err := <-failed:
		s.log.Error("shutting down: a component failed", "error", err)
		return err
	case <-databaseEnded:
		err := errors.Join(errors.New("the embedded PostgreSQL ended"), s.database.Err())
		s.log.Error("shutting down: the embedded PostgreSQL ended", "error", s.database.Err())
		return err
	}
}

// drain admits nothing new, lets open connections continue for a while, and ends the rest.
func (s *server) drain() {
	s.notify.Stopping("waiting for open tunnels to end")
	// Connections to a socket that the next process inherits are served: the
	// client cannot know that it was this one that accepted it.
	if !s.handOver() {
		s.gate.CloseAdmission()
	}
	s.admin.AddCheck("serving", func() error { return errors.New("shutting down") })
	ctx, cancel := context.WithTimeout(context.Background(), s.config.Shutdown.DrainTimeout)
	defer cancel()
	var both sync.WaitGroup
	both.Go(func() { _ = s.front.Shutdown(ctx) })
	both.Go(func() { s.drainDelivery(ctx) })
	both.Go(func() { s.drainWebhooks(ctx) })
	both.Go(func() {
		if n := s.tracker.Drain(ctx); n > 0 {
			s.log.Warn("tunnels were closed at the end of the drain timeout", "tunnels", n)
		}
	})
	both.Wait()
	ctx, cancel = context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = s.admin.Close(ctx)
	_ = s.control.Close(ctx)
}

// probes are the components without which nothing is decided or recorded.
func (s *server) probes() []systemd.Probe {
	return []systemd.Probe{
		{Component: "audit", Run: func() { _ = s.audit.Available() }},
		{Component: "identity", Run: func() { _ = s.authenticator.Ready() }},
		{Component: "policy", Run: func() { _ = s.policy.Ready(); _ = s.policy.Detail() }},
		{Component: "tunnels", Run: func() { _ = s.tracker.Len() }},
		{Component: "connections", Run: func() { _ = s.front.Connections() }},
	}
}

var _ proxy.Decider = (*rego.Engine)(nil)
