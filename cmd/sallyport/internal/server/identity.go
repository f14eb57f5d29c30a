package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/components"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/identity/bitbucket"
	identitypg "github.com/sallyport/sallyport/identity/postgres"
	"github.com/sallyport/sallyport/internal/admin"
	"github.com/sallyport/sallyport/internal/bitbucketapi"
	"github.com/sallyport/sallyport/internal/builds"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/emergencystop"
	"github.com/sallyport/sallyport/internal/operator"
	"github.com/sallyport/sallyport/internal/reassignment"
	"github.com/sallyport/sallyport/proxy"
)

// countIdentity makes the metrics of identity, and the recorder of reassigned names.
func (s *server) countIdentity(context.Context) error {
	var workspaces []string
	for _, w := range s.config.Identity.Bitbucket {
		workspaces = append(workspaces, w.Workspace)
	}
	s.identityMetrics = admin.NewIdentityMetrics(s.metrics, workspaces)
	s.reassignments = reassignment.New(reassignment.Config{Record: s.audit.Record, Count: s.identityMetrics.NameReassigned, Log: s.log})
	return nil
}

// openStore opens the store of names, admitted tokens and revocations.
func (s *server) openStore(ctx context.Context) error {
	var err error
	s.store, err = identitypg.Open(ctx, identitypg.Config{
		URL: s.databaseURL, Log: s.log.With("component", "identity"), AdmittedMaxAge: s.config.Identity.ExpiredTokenGracePeriod,
		NameReassigned: s.reassignments.Add,
	})
	if err != nil {
		return err
	}
	s.atClose(s.store.Close)
	return nil
}

// startIdentity makes the authenticator. It fails if no token can be verified.
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

// barred returns why an admission must not begin: an operator may have stopped the
// instance or revoked the credential since the admission's decision.
func (s *server) barred(a *proxy.Admission) proxy.Cause {
	switch p := a.Principal; {
	case s.gate.Stopped():
		return proxy.CauseEmergencyStop
	case p != nil && s.store.Revoked(p.Step.UUID, p.Repository.UUID):
		return proxy.CauseRevoked
	}
	return ""
}

// closeRevoked closes what new revocations cover. An admission that begins later is
// stopped by barred.
func (s *server) closeRevoked(revocations []identity.Revocation) {
	operator.CloseRevoked(s.tracker, revocations, s.log)
}

// fetchBuilds fetches the details of pipelines until ctx ends.
func (s *server) fetchBuilds(ctx context.Context) {
	if !slices.ContainsFunc(s.config.Identity.Bitbucket, func(w config.Bitbucket) bool { return w.API != nil }) {
		return
	}
	builds.Run(ctx, builds.Config{Store: s.store, Fetch: s.fetchPipeline, Log: s.log.With("component", "identity")})
}

func (s *server) fetchPipeline(ctx context.Context, id identity.PipelineID) (p identity.Pipeline, hasAPI bool, err error) {
	api, err := s.authenticator.API(id.WorkspaceUUID)
	if errors.Is(err, bitbucketapi.ErrNoAPI) {
		return p, false, nil
	}
	if err != nil {
		return p, true, err
	}
	p, err = api.Pipeline(ctx, id.RepositoryUUID, id.PipelineUUID)
	return p, true, err
}

// repositories lists the full names of the workspaces' repositories.
func (s *server) repositories(ctx context.Context) ([]string, error) {
	return components.Repositories(ctx, s.config)
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

// storeWarning is set while revocations cannot be read, or names cannot be written. The
// revocations in force stay in force, and a new one of another instance is not known here.
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

// listenControl opens the control socket early: it fails if another instance runs on this
// data directory.
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

// buildControl makes the control socket's operations.
func (s *server) buildControl(context.Context) error {
	s.stop.Guard(s.gate, s.tracker)
	agents, agentEndpoints := s.agentCredentials()
	deliveries, endpoints := s.storedDeliveries()
	s.control = admin.NewControl(operator.Operations(operator.Config{
		Agents: agents, AgentEndpoints: agentEndpoints, Deliveries: deliveries, Endpoints: endpoints, Record: s.audit.Record, Revocations: s.store, Repositories: s.authenticator, Tunnels: s.tracker, Stop: s.stop,
		Reload: s.reloadPolicy, Log: s.log,
	}), s.log.With("component", "control"))
	return nil
}
