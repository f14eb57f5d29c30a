package server

import (
	"context"
	"errors"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/components"
	"github.com/sallyport/sallyport/internal/admin"
	"github.com/sallyport/sallyport/policy/manager"
)

// loadPolicy activates the first policy: what the source offers, or, if that is
// unavailable or rejected, the last active one. Without either the start fails.
func (s *server) loadPolicy(ctx context.Context) error {
	var err error
	if s.policy, err = manager.New(manager.Config{
		Config: s.config, Log: s.log.With("component", "policy"), Git: components.GitConfig, Notifier: s.notify,
	}); err != nil {
		return err
	}
	s.atClose(s.policy.Close)
	err = s.policy.Begin(ctx)
	if _, missing := errors.AsType[manager.NoPolicyError](err); missing {
		err = cli.Invalid(err)
	}
	return err
}

// announcePolicy keeps the first policy's content and records that it decides,
// before it does.
func (s *server) announcePolicy(ctx context.Context) error {
	var activated func()
	if s.approvals != nil {
		activated = s.approvals.Activated
	}
	return s.policy.RecordFirst(ctx, s.audit, activated)
}

// reloadPolicy activates the source's present revision at an operator's request.
func (s *server) reloadPolicy(ctx context.Context) (admin.PolicyState, error) {
	before := s.policy.Engine().Current()
	s.policy.Refresh(ctx, true)
	s.policy.WaitSettled(ctx)
	active := s.policy.Engine().Current()
	if active == nil {
		return admin.PolicyState{}, errors.New("no policy is active")
	}
	pending := active.Pending()
	out := admin.PolicyState{
		Revision: active.Revision().Digest, Commit: active.Revision().Commit, Changed: before != active,
		Pending: len(pending), PendingRepositories: manager.PendingNames(pending),
	}
	if err := s.policy.Failure(); err != nil {
		out.LastReloadError = err.Error()
	}
	return out, nil
}
