package operator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/admin"
	"github.com/sallyport/sallyport/internal/uuid"
	"github.com/sallyport/sallyport/proxy"
)

// credentials implements [admin.Credentials].
type credentials struct{ Config }

// subject is the step or the repository of a revocation.
type subject struct {
	scope identity.RevocationScope
	uuid  string
	name  string // of a repository, if it is known
}

func (s subject) String() string { return string(s.scope) + " " + cmp.Or(s.name, s.uuid) }

// matches reports whether an admission belongs to the subject.
func (s subject) matches(a *proxy.Admission) bool {
	return (&identity.Revocation{Scope: s.scope, UUID: s.uuid}).Covers(a.Principal)
}

// setFields names the subject in an event.
func (s subject) setFields(e *audit.Event) {
	if s.scope == identity.ScopeStep {
		e.StepUUID = s.uuid
	} else {
		e.RepositoryUUID, e.Repository = s.uuid, s.name
	}
}

// resolveSubject finds the step or repository that an operator names.
func (c *Config) resolveSubject(o admin.Subject) (subject, error) {
	switch {
	case (o.Step == "") == (o.Repository == ""):
		return subject{}, &admin.Mistake{Message: "name one of a step and a repository"}
	case o.Step != "":
		id, ok := uuid.Parse(o.Step)
		if !ok {
			return subject{}, &admin.Mistake{Message: fmt.Sprintf("%q is not the UUID of a step, which stands in its log as BITBUCKET_STEP_UUID and in the audit log as step_uuid", o.Step)}
		}
		return subject{scope: identity.ScopeStep, uuid: id}, nil
	}
	if id, ok := uuid.Parse(o.Repository); ok {
		return subject{identity.ScopeRepository, id, c.Repositories.RepositoryName(id)}, nil
	}
	id, known := c.Repositories.RepositoryUUID(o.Repository)
	if !known {
		return subject{}, &admin.Mistake{Message: fmt.Sprintf("no repository is known as %q: write workspace/repository as Bitbucket does, or its UUID, which the audit log has as repository_uuid", o.Repository)}
	}
	return subject{identity.ScopeRepository, id, o.Repository}, nil
}

// Revoke refuses the subject's credentials on every instance, and closes its tunnels and
// requests on this instance. Other instances close theirs when they read the revocation.
func (c credentials) Revoke(ctx context.Context, by admin.Operator, r admin.RevokeRequest) (admin.Revoked, error) {
	s, err := c.resolveSubject(r.Subject)
	if err != nil {
		return admin.Revoked{}, err
	}
	if err := checkReason(r.Reason); err != nil {
		return admin.Revoked{}, err
	}
	if strings.TrimSpace(r.Reason) == "" {
		return admin.Revoked{}, &admin.Mistake{Message: "a reason is needed: it is recorded in the audit log"}
	}
	if r.For <= 0 {
		return admin.Revoked{}, &admin.Mistake{Message: "a duration is needed, such as 24h"}
	}
	// Open tunnels are counted before the revocation: the store notifies every instance,
	// this one too, which may close the tunnels before the call below.
	open := 0
	for _, t := range c.Tunnels.Tunnels() {
		if s.matches(t.Admission) {
			open++
		}
	}
	revocation, err := c.Config.Revocations.Revoke(ctx, s.scope, s.uuid, time.Now().Add(r.For), by.String(), r.Reason)
	unconfirmed, partial := errors.AsType[*identity.UnconfirmedError](err)
	if err != nil && !partial {
		return admin.Revoked{}, err
	}
	out := admin.Revoked{Revocation: c.toAPI(revocation)}
	if partial {
		out.Unconfirmed = unconfirmed.Error()
	}
	out.Closed = max(open, c.Tunnels.Close(proxy.CauseRevoked, s.matches))
	details := []func(*audit.Event){s.setFields, attribute("until", revocation.Until.UTC().Format(time.RFC3339)), attribute("closed", strconv.Itoa(out.Closed))}
	if partial {
		details = append(details, attribute("unconfirmed", out.Unconfirmed))
	}
	if err := c.record(ctx, by, actionRevoked, r.Reason, details...); err != nil {
		return out, fmt.Errorf("%s is revoked, but %w", s, err)
	}
	return out, nil
}

// Unrevoke lifts a subject's revocations, after it has recorded that.
func (c credentials) Unrevoke(ctx context.Context, by admin.Operator, r admin.UnrevokeRequest) (admin.Unrevoked, error) {
	s, err := c.resolveSubject(r.Subject)
	if err != nil {
		return admin.Unrevoked{}, err
	}
	if err := checkReason(r.Reason); err != nil {
		return admin.Unrevoked{}, err
	}
	list, err := c.Config.Revocations.Revocations(ctx)
	if err != nil {
		return admin.Unrevoked{}, err
	}
	out := admin.Unrevoked{Scope: string(s.scope), UUID: s.uuid}
	if !slices.ContainsFunc(list, func(r identity.Revocation) bool { return r.Scope == s.scope && r.UUID == s.uuid }) {
		return out, nil
	}
	if err := c.record(ctx, by, actionUnrevoked, r.Reason, s.setFields); err != nil {
		return out, fmt.Errorf("%s stays revoked: %w", s, err)
	}
	out.Lifted, err = c.Config.Revocations.Unrevoke(ctx, s.scope, s.uuid, by.String(), r.Reason)
	return out, err
}

// Revocations lists the revocations in force.
func (c credentials) Revocations(ctx context.Context) ([]admin.Revocation, error) {
	list, err := c.Config.Revocations.Revocations(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]admin.Revocation, len(list))
	for i, r := range list {
		all[i] = c.toAPI(r)
	}
	return all, nil
}

func (c *Config) toAPI(r identity.Revocation) admin.Revocation {
	out := admin.Revocation{ID: r.ID, Scope: string(r.Scope), UUID: r.UUID, Since: r.RevokedAt.UTC(), Until: r.Until.UTC(), By: r.By, Reason: r.Reason}
	if r.Scope == identity.ScopeRepository {
		out.Name = c.Repositories.RepositoryName(r.UUID)
	}
	return out
}

// CloseRevoked closes the open tunnels and requests that new revocations cover, and logs the
// revocations, which may be those of another instance.
func CloseRevoked(open Tunnels, revocations []identity.Revocation, log *slog.Logger) {
	closed := open.Close(proxy.CauseRevoked, func(a *proxy.Admission) bool {
		return slices.ContainsFunc(revocations, func(r identity.Revocation) bool { return r.Covers(a.Principal) })
	})
	for _, r := range revocations {
		log.Warn("credentials revoked", "scope", string(r.Scope), "uuid", r.UUID, "until", r.Until, "operator", r.By, "reason", r.Reason)
	}
	if closed > 0 {
		log.Warn("tunnels of revoked steps were closed", "tunnels", closed)
	}
}
