package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sallyport/sallyport/audit"
	identitypg "github.com/sallyport/sallyport/identity/postgres"
	"github.com/sallyport/sallyport/internal/admin"
	"github.com/sallyport/sallyport/internal/uuid"
	"github.com/sallyport/sallyport/policy/manager"
	"github.com/sallyport/sallyport/policy/rego"
	"github.com/sallyport/sallyport/proxy"
)

// The operations of an operator in the audit log: the action of an event
// of kind admin.
const (
	operationRevoked      = "token_revoked"
	operationUnrevoked    = "token_unrevoked"
	operationClosed       = "tunnels_closed"
	operationStopped      = "emergency_stop"
	operationStopLifted   = "emergency_stop_lifted"
	operationPolicyReload = "policy_reload"
)

const (
	maxReason = 1000 // bytes
	maxIDs    = 1000 // of tunnels, in one request
)

// recorded makes an event of an operator's operation and waits until it is recorded.
func (s *server) recorded(ctx context.Context, by admin.Operator, operation, why string, more ...func(*audit.Event)) error {
	e := &audit.Event{Time: time.Now(), Kind: audit.KindAdmin, Action: operation, Message: why, Attributes: []audit.Attribute{
		{Name: "operator", Value: by.String()},
		{Name: "operator_uid", Value: strconv.FormatUint(uint64(by.UID), 10)},
		{Name: "operator_pid", Value: strconv.Itoa(int(by.PID))},
	}}
	for _, add := range more {
		add(e)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := s.audit.Record(ctx, e); err != nil {
		return fmt.Errorf("it cannot be recorded: %w", err)
	}
	s.log.Warn("operator action", "operation", operation, "operator", by.String(), "reason", why)
	return nil
}

func attribute(name, value string) func(*audit.Event) {
	return func(e *audit.Event) { e.Attributes = append(e.Attributes, audit.Attribute{Name: name, Value: value}) }
}

func checkWhy(why string) error {
	if len(why) > maxReason || !utf8.ValidString(why) || strings.ContainsRune(why, 0) {
		return &admin.Mistake{Message: fmt.Sprintf("why: at most %d bytes of text", maxReason)}
	}
	return nil
}

// credentialOperations revoke and restore, through the store that all instances share.
type credentialOperations struct{ *server }

// subject is whom a revocation is of, found out.
type subject struct {
	scope identitypg.Scope
	uuid  string
	name  string // of a repository, where it is known
}

func (u subject) String() string { return string(u.scope) + " " + cmp.Or(u.name, u.uuid) }

// holds reports whether an admission is the subject's.
func (u subject) holds(a *proxy.Admission) bool {
	if a.Principal == nil {
		return false
	}
	if u.scope == identitypg.ScopeStep {
		return a.Principal.Step.UUID == u.uuid
	}
	return a.Principal.Repository.UUID == u.uuid
}

func (u subject) event(e *audit.Event) {
	if u.scope == identitypg.ScopeStep {
		e.StepUUID = u.uuid
	} else {
		e.RepositoryUUID, e.Repository = u.uuid, u.name
	}
}

// find finds out whom an operator means.
func (s *server) find(o admin.Subject) (subject, error) {
	switch {
	case (o.Step == "") == (o.Repository == ""):
		return subject{}, &admin.Mistake{Message: "name one of a step and a repository"}
	case o.Step != "":
		uuid, ok := uuid.Parse(o.Step)
		if !ok {
			return subject{}, &admin.Mistake{Message: fmt.Sprintf("%q is not the UUID of a step, which stands in its log as BITBUCKET_STEP_UUID and in the audit log as step_uuid", o.Step)}
		}
		return subject{scope: identitypg.ScopeStep, uuid: uuid}, nil
	}
	if uuid, ok := uuid.Parse(o.Repository); ok {
		return subject{identitypg.ScopeRepository, uuid, s.authenticator.RepositoryName(uuid)}, nil
	}
	uuid, known := s.authenticator.RepositoryUUID(o.Repository)
	if !known {
		return subject{}, &admin.Mistake{Message: fmt.Sprintf("no repository is known as %q: write workspace/repository as Bitbucket does, or its UUID, which the audit log has as repository_uuid", o.Repository)}
	}
	return subject{identitypg.ScopeRepository, uuid, o.Repository}, nil
}

// Revoke ends the admission of a subject in every instance, and what it has open
// here; other instances end theirs when they learn of it.
func (s credentialOperations) Revoke(ctx context.Context, by admin.Operator, r admin.RevokeRequest) (admin.Revoked, error) {
	u, err := s.find(r.Subject)
	if err != nil {
		return admin.Revoked{}, err
	}
	if err := checkWhy(r.Reason); err != nil {
		return admin.Revoked{}, err
	}
	if strings.TrimSpace(r.Reason) == "" {
		return admin.Revoked{}, &admin.Mistake{Message: "a reason is needed: it is recorded in the audit log"}
	}
	if r.For <= 0 {
		return admin.Revoked{}, &admin.Mistake{Message: "a duration is needed, such as 24h"}
	}
	// Open tunnels are counted before: the store notifies every instance, this one too,
	// and closeRevoked may be first.
	open := 0
	for _, t := range s.tracker.Tunnels() {
		if u.holds(t.Admission) {
			open++
		}
	}
	revocation, err := s.store.Revoke(ctx, u.scope, u.uuid, time.Now().Add(r.For), by.String(), r.Reason)
	unconfirmed, partial := errors.AsType[*identitypg.UnconfirmedError](err)
	if err != nil && !partial {
		return admin.Revoked{}, err
	}
	out := admin.Revoked{Revocation: s.shown(revocation)}
	if partial {
		out.Unconfirmed = unconfirmed.Error()
	}
	out.Closed = max(open, s.tracker.Close(proxy.CauseRevoked, u.holds))
	details := []func(*audit.Event){u.event, attribute("until", revocation.Until.UTC().Format(time.RFC3339)), attribute("closed", strconv.Itoa(out.Closed))}
	if partial {
		details = append(details, attribute("unconfirmed", out.Unconfirmed))
	}
	if err := s.recorded(ctx, by, operationRevoked, r.Reason, details...); err != nil {
		return out, fmt.Errorf("%s is revoked, but %w", u, err)
	}
	return out, nil
}

// Unrevoke lifts a subject's revocations. It is recorded before it happens.
func (s credentialOperations) Unrevoke(ctx context.Context, by admin.Operator, r admin.UnrevokeRequest) (admin.Unrevoked, error) {
	u, err := s.find(r.Subject)
	if err != nil {
		return admin.Unrevoked{}, err
	}
	if err := checkWhy(r.Reason); err != nil {
		return admin.Unrevoked{}, err
	}
	list, err := s.store.Revocations(ctx)
	if err != nil {
		return admin.Unrevoked{}, err
	}
	out := admin.Unrevoked{Scope: string(u.scope), UUID: u.uuid}
	if !slices.ContainsFunc(list, func(r identitypg.Revocation) bool { return r.Scope == u.scope && r.UUID == u.uuid }) {
		return out, nil
	}
	if err := s.recorded(ctx, by, operationUnrevoked, r.Reason, u.event); err != nil {
		return out, fmt.Errorf("%s stays revoked: %w", u, err)
	}
	out.Lifted, err = s.store.Unrevoke(ctx, u.scope, u.uuid, by.String(), r.Reason)
	return out, err
}

// Revocations lists what is in force.
func (s credentialOperations) Revocations(ctx context.Context) ([]admin.Revocation, error) {
	list, err := s.store.Revocations(ctx)
	if err != nil {
		return nil, err
	}
	shown := make([]admin.Revocation, len(list))
	for i, r := range list {
		shown[i] = s.shown(r)
	}
	return shown, nil
}

func (s *server) shown(r identitypg.Revocation) admin.Revocation {
	out := admin.Revocation{ID: r.ID, Scope: string(r.Scope), UUID: r.UUID, Since: r.RevokedAt.UTC(), Until: r.Until.UTC(), By: r.By, Reason: r.Reason}
	if r.Scope == identitypg.ScopeRepository {
		out.Name = s.authenticator.RepositoryName(r.UUID)
	}
	return out
}

// tunnelOperations are open tunnels here.
type tunnelOperations struct{ *server }

// List lists open tunnels.
func (s tunnelOperations) List(context.Context) (admin.TunnelList, error) {
	list := admin.TunnelList{Tunnels: []admin.Tunnel{}, Stop: s.stop.Current()}
	for _, t := range s.tracker.Tunnels() {
		shown := admin.Tunnel{ID: t.Admission.ID, Since: t.Since, Target: t.Admission.Target.String(), Sent: t.Sent, Received: t.Received}
		if p := t.Admission.Principal; p != nil {
			shown.Workspace, shown.Repository, shown.RepositoryUUID = p.Workspace.Slug, p.Repository.FullName, p.Repository.UUID
			shown.StepUUID, shown.Branch = p.Step.UUID, p.Branch
			if p.Deployment != nil {
				shown.Deployment = cmp.Or(p.Deployment.Slug, p.Deployment.Name, p.Deployment.UUID)
			}
		}
		list.Tunnels = append(list.Tunnels, shown)
	}
	return list, nil
}

// Close closes tunnels, and requests under way, by their decision's id.
func (s tunnelOperations) Close(ctx context.Context, by admin.Operator, r admin.CloseRequest) (admin.Closed, error) {
	if len(r.IDs) == 0 || len(r.IDs) > maxIDs {
		return admin.Closed{}, &admin.Mistake{Message: fmt.Sprintf("name 1 to %d tunnels by the ids that `sallyport tunnels list` shows", maxIDs)}
	}
	if err := checkWhy(r.Reason); err != nil {
		return admin.Closed{}, err
	}
	open := map[string]bool{}
	var out admin.Closed
	out.Closed = s.tracker.Close(proxy.CauseOperator, func(a *proxy.Admission) bool {
		wanted := slices.Contains(r.IDs, a.ID)
		if wanted {
			open[a.ID] = true
		}
		return wanted
	})
	for _, id := range r.IDs {
		if !open[id] {
			out.Unknown = append(out.Unknown, id)
		}
	}
	if len(open) == 0 {
		return out, nil
	}
	ids := slices.DeleteFunc(slices.Clone(r.IDs), func(id string) bool { return !open[id] })
	if err := s.recorded(ctx, by, operationClosed, r.Reason, attribute("decision_ids", strings.Join(ids, " "))); err != nil {
		return out, fmt.Errorf("%d tunnels were closed, but %w", out.Closed, err)
	}
	return out, nil
}

// EmergencyStop stops everything first, and sees to the rest then.
func (s tunnelOperations) EmergencyStop(ctx context.Context, by admin.Operator, r admin.StopRequest) (admin.Stopped, error) {
	if err := checkWhy(r.Reason); err != nil {
		r.Reason = "" // no time to argue
	}
	out := admin.Stopped{Stop: admin.Stop{Since: time.Now().UTC().Truncate(time.Second), By: by.String(), Reason: r.Reason}}
	var err error
	if out.Closed, err = s.stop.Stop(out.Stop); err != nil {
		out.Warnings = append(out.Warnings, err.Error())
	}
	if err := s.recorded(ctx, by, operationStopped, r.Reason, attribute("closed", strconv.Itoa(out.Closed))); err != nil {
		out.Warnings = append(out.Warnings, err.Error())
	}
	return out, nil
}

// LiftEmergencyStop lifts the stop. It is recorded before it happens.
func (s tunnelOperations) LiftEmergencyStop(ctx context.Context, by admin.Operator, r admin.StopRequest) (admin.StopLifted, error) {
	if err := checkWhy(r.Reason); err != nil {
		return admin.StopLifted{}, err
	}
	was, err := s.stop.Lift(func(was admin.Stop) error {
		if err := s.recorded(ctx, by, operationStopLifted, r.Reason, attribute("stopped_since", was.Since.Format(time.RFC3339)), attribute("stopped_by", was.By)); err != nil {
			return fmt.Errorf("everything stays stopped: %w", err)
		}
		return nil
	})
	return admin.StopLifted{Was: was}, err
}

// policyOperations look after the policy.
type policyOperations struct{ *server }

// Reload checks the policy's source at once.
func (s policyOperations) Reload(ctx context.Context, by admin.Operator) (admin.PolicyState, error) {
	before := s.policy.Engine().Current()
	if err := s.recorded(ctx, by, operationPolicyReload, ""); err != nil {
		return admin.PolicyState{}, err
	}
	s.policy.Refresh(ctx, true)
	s.policy.WaitSettled(ctx)
	return policyState(before, s.policy.Engine().Current(), s.policy.Failure())
}

func policyState(before, now *rego.Set, failure error) (admin.PolicyState, error) {
	if now == nil {
		return admin.PolicyState{}, errors.New("no policy is active")
	}
	out := admin.PolicyState{Revision: now.Revision().Digest, Commit: now.Revision().Commit, Changed: before != now}
	pending := now.Pending()
	out.Pending, out.PendingRepositories = len(pending), manager.PendingNames(pending)
	if failure != nil {
		out.LastReloadError = failure.Error()
	}
	return out, nil
}
