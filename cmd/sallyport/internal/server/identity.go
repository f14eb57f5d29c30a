package server

import (
	"context"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/components"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/identity/bitbucket"
	identitypg "github.com/sallyport/sallyport/identity/postgres"
	"github.com/sallyport/sallyport/internal/admin"
	"github.com/sallyport/sallyport/internal/emergencystop"
	"github.com/sallyport/sallyport/proxy"
)

// countIdentity makes the figures of the effect on credentials.
func (s *server) countIdentity(context.Context) error {
	var workspaces []string
	for _, w := range s.config.Identity.Bitbucket {
		workspaces = append(workspaces, w.Workspace)
	}
	s.identityMetrics = admin.NewIdentityMetrics(s.metrics, workspaces)
	s.reassignments = make(chan identitypg.Reassignment, maxReassignments)
	return nil
}

// openStore opens the database's part of identity.
func (s *server) openStore(ctx context.Context) error {
	var err error
	s.store, err = identitypg.Open(ctx, identitypg.Config{
		URL: s.databaseURL, Log: s.log.With("component", "identity"), AdmittedMaxAge: s.config.Identity.ExpiredTokenGracePeriod,
		NameReassigned: s.nameReassigned,
	})
	if err != nil {
		return err
	}
	s.atClose(s.store.Close)
	return nil
}

// startIdentity makes the authenticator and sees that tokens can be verified.
func (s *server) startIdentity(ctx context.Context) error {
	var err error
	s.authenticator, err = bitbucket.New(components.Identity(s.config), bitbucket.Deps{
		Log: s.log.With("component", "identity"), Names: s.store, Admitted: s.store, Revocations: s.store,
		Hooks: bitbucket.Hooks{
			Verified:     s.identityMetrics.Verified,
			Refused:      func(_ string, _ identity.Problem, check string) { s.identityMetrics.Refused(check) },
			KeysFetched:  s.identityMetrics.KeysFetched,
			NamesFetched: s.identityMetrics.NamesFetched,
		},
	})
	if err != nil {
		return err
	}
	s.atClose(s.authenticator.Close)
	return s.authenticator.Begin(ctx)
}

// barred is asked when something admitted begins: an operator's word may have
// come while it was on its way.
func (s *server) barred(a *proxy.Admission) proxy.Cause {
	switch p := a.Principal; {
	case s.gate.Stopped():
		return proxy.CauseEmergencyStop
	case p != nil && s.store.Revoked(p.Step.UUID, p.Repository.UUID):
		return proxy.CauseRevoked
	}
	return ""
}

// closeRevoked ends open tunnels of those who are newly revoked, by whichever
// instance; who was on the way is stopped by barred.
func (s *server) closeRevoked(news []identitypg.Revocation) {
	closed := s.tracker.Close(proxy.CauseRevoked, func(a *proxy.Admission) bool {
		for _, r := range news {
			if (subject{scope: r.Scope, uuid: r.UUID}).holds(a) {
				return true
			}
		}
		return false
	})
	for _, r := range news {
		s.log.Warn("credentials revoked", "scope", string(r.Scope), "uuid", r.UUID, "until", r.Until, "operator", r.By, "reason", r.Reason)
	}
	if closed > 0 {
		s.log.Warn("tunnels of revoked steps were closed", "tunnels", closed)
	}
}

// storeDetail is a detail of /readyz.
func (s *server) storeDetail() any {
	st := s.store.Status()
	d := map[string]any{"revocations": st.Revocations, "revocations_read": st.RevocationsRead.UTC().Format(time.RFC3339), "admitted_tokens": st.Admitted}
	for name, err := range map[string]error{"revocations_error": st.RevocationsError, "names_error": st.NamesError, "admitted_error": st.AdmissionsError} {
		if err != nil {
			d[name] = err.Error()
		}
	}
	return d
}

// storeWarning is set while revocations cannot be read, or names not be written:
// those in force stay so, and a new revocation elsewhere is not known here.
func (s *server) storeWarning() error {
	st := s.store.Status()
	switch {
	case st.RevocationsError != nil:
		return fmt.Errorf("revocations are not read since %s; those in force stay so: %w", st.RevocationsSince.UTC().Format(time.RFC3339), st.RevocationsError)
	case st.NamesError != nil:
		return fmt.Errorf("names are not written: %w", st.NamesError)
	}
	return nil
}

// listenControl makes the control socket, early: an instance that already runs on
// this data directory shows here.
func (s *server) listenControl(context.Context) error {
	l, err := admin.ListenControl(s.config.DataDirectory)
	if err != nil {
		return err
	}
	s.atClose(func() { _ = l.Close() })
	s.controlAt = l
	s.stop, err = emergencystop.Load(s.config.DataDirectory, s.log)
	return err
}

// buildControl makes what answers on it.
func (s *server) buildControl(context.Context) error {
	s.stop.Guard(s.gate, s.tracker)
	s.control = admin.NewControl(admin.Operations{
		Credentials: credentialOperations{s}, Tunnels: tunnelOperations{s}, Policy: policyOperations{s},
	}, s.log.With("component", "control"))
	return nil
}
