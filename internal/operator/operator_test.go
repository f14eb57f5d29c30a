package operator

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/admin"
	"github.com/sallyport/sallyport/internal/emergencystop"
	"github.com/sallyport/sallyport/proxy"
)

const (
	stepA      = "5f0c1d2e-0000-4000-8000-000000000001"
	stepB      = "5f0c1d2e-0000-4000-8000-000000000002"
	repository = "11112222-3333-4444-5555-666677778888"
)

var ada = admin.Operator{UID: 1000, PID: 42, Name: "ada"}

// instance is what the operations act on, in memory.
type instance struct {
	events      []*audit.Event
	recordErr   error
	revocations []identity.Revocation
	revokeErr   error
	open        []*proxy.Admission
	closed      map[proxy.Cause][]string // ids of decisions
	stopped     bool
	reloads     int
}

func (i *instance) record(_ context.Context, e *audit.Event) error {
	if i.recordErr == nil {
		i.events = append(i.events, e)
	}
	return i.recordErr
}

func (i *instance) Revoke(_ context.Context, scope identity.RevocationScope, uuid string, until time.Time, by, reason string) (identity.Revocation, error) {
	r := identity.Revocation{ID: 7, Scope: scope, UUID: uuid, Until: until, By: by, Reason: reason}
	if _, unconfirmed := errors.AsType[*identity.UnconfirmedError](i.revokeErr); i.revokeErr == nil || unconfirmed {
		i.revocations = append(i.revocations, r)
	}
	return r, i.revokeErr
}

func (i *instance) Unrevoke(_ context.Context, scope identity.RevocationScope, uuid, _, _ string) (lifted int, err error) {
	before := len(i.revocations)
	i.revocations = slices.DeleteFunc(i.revocations, func(r identity.Revocation) bool { return r.Scope == scope && r.UUID == uuid })
	return before - len(i.revocations), nil
}

func (i *instance) Revocations(context.Context) ([]identity.Revocation, error) {
	return i.revocations, nil
}

func (i *instance) RepositoryName(uuid string) string {
	if uuid == repository {
		return "acme/payments"
	}
	return ""
}

func (i *instance) RepositoryUUID(name string) (string, bool) {
	return repository, name == "acme/payments"
}

func (i *instance) Tunnels() []proxy.TunnelInfo {
	var list []proxy.TunnelInfo
	for _, a := range i.open {
		list = append(list, proxy.TunnelInfo{Admission: a})
	}
	return list
}

func (i *instance) Close(cause proxy.Cause, which func(*proxy.Admission) bool) (n int) {
	i.open = slices.DeleteFunc(i.open, func(a *proxy.Admission) bool {
		if which != nil && !which(a) {
			return false
		}
		i.closed[cause] = append(i.closed[cause], a.ID)
		n++
		return true
	})
	return n
}

func (i *instance) Stop()   { i.stopped = true }
func (i *instance) Resume() { i.stopped = false }

// start returns an instance with a tunnel of each of two steps of a repository, and one
// without a principal.
func start(t *testing.T) (*instance, admin.Operations) {
	t.Helper()
	i := &instance{closed: map[proxy.Cause][]string{}}
	for id, step := range map[string]string{"a": stepA, "b": stepB} {
		p := &identity.Principal{Step: identity.Run{UUID: step}, Repository: identity.Repository{UUID: repository, FullName: "acme/payments"}}
		i.open = append(i.open, &proxy.Admission{ID: id, Principal: p})
	}
	i.open = append(i.open, &proxy.Admission{ID: "nobody"})
	log := slog.New(slog.DiscardHandler)
	stop, err := emergencystop.Load(t.TempDir(), log)
	if err != nil {
		t.Fatal(err)
	}
	stop.Guard(i, i)
	return i, Operations(Config{Record: i.record, Revocations: i, Repositories: i, Tunnels: i, Stop: stop, Log: log,
		Reload: func(context.Context) (admin.PolicyState, error) {
			i.reloads++
			return admin.PolicyState{Revision: "sha256:1"}, nil
		}})
}

// only returns the one recorded event, of an action, with its attributes.
func (i *instance) only(t *testing.T, action string) (*audit.Event, map[string]string) {
	t.Helper()
	if len(i.events) != 1 || i.events[0].Action != action || i.events[0].Kind != audit.KindAdmin {
		t.Fatalf("the events are %+v, want one of action %s", i.events, action)
	}
	attributes := map[string]string{}
	for _, a := range i.events[0].Attributes {
		attributes[a.Name] = a.Value
	}
	if attributes["operator"] != "ada (uid 1000)" || attributes["operator_uid"] != "1000" || attributes["operator_pid"] != "42" {
		t.Errorf("the event names the operator as %v", attributes)
	}
	return i.events[0], attributes
}

func TestRevokeClosesTheSubjectsTunnels(t *testing.T) {
	for _, tt := range []struct {
		name    string
		subject admin.Subject
		closed  []string
		event   audit.Event
	}{
		{"step", admin.Subject{Step: "{" + strings.ToUpper(stepA) + "}"}, []string{"a"}, audit.Event{StepUUID: stepA}},
		{"repository by name", admin.Subject{Repository: "acme/payments"}, []string{"a", "b"}, audit.Event{RepositoryUUID: repository, Repository: "acme/payments"}},
		{"repository by UUID", admin.Subject{Repository: repository}, []string{"a", "b"}, audit.Event{RepositoryUUID: repository, Repository: "acme/payments"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i, operations := start(t)
			out, err := operations.Credentials.Revoke(t.Context(), ada, admin.RevokeRequest{Subject: tt.subject, For: time.Hour, Reason: "a token leaked"})
			if err != nil || out.Closed != len(tt.closed) || out.Unconfirmed != "" || len(i.revocations) != 1 {
				t.Errorf("%+v, %v, and %d revocations are in force", out, err, len(i.revocations))
			}
			if closed := slices.Sorted(slices.Values(i.closed[proxy.CauseRevoked])); !slices.Equal(closed, tt.closed) {
				t.Errorf("closed %v, want %v", closed, tt.closed)
			}
			e, attributes := i.only(t, "token_revoked")
			if e.StepUUID != tt.event.StepUUID || e.RepositoryUUID != tt.event.RepositoryUUID || e.Repository != tt.event.Repository || e.Message != "a token leaked" {
				t.Errorf("recorded %+v", e)
			}
			if attributes["until"] == "" || attributes["closed"] == "" {
				t.Errorf("recorded %v", attributes)
			}
		})
	}
}

func TestUnconfirmedRevocationIsReportedAndRecorded(t *testing.T) {
	i, operations := start(t)
	i.revokeErr = &identity.UnconfirmedError{Instances: []string{"instance x"}, Waited: time.Second}
	out, err := operations.Credentials.Revoke(t.Context(), ada, admin.RevokeRequest{Subject: admin.Subject{Step: stepA}, For: time.Hour, Reason: "r"})
	if err != nil || !strings.Contains(out.Unconfirmed, "instance x") || out.Closed != 1 {
		t.Errorf("%+v, %v", out, err)
	}
	if _, attributes := i.only(t, "token_revoked"); !strings.Contains(attributes["unconfirmed"], "instance x") {
		t.Errorf("recorded %v", attributes)
	}
}

func TestFailedRevocationClosesAndRecordsNothing(t *testing.T) {
	i, operations := start(t)
	i.revokeErr = errors.New("no database")
	if _, err := operations.Credentials.Revoke(t.Context(), ada, admin.RevokeRequest{Subject: admin.Subject{Step: stepA}, For: time.Hour, Reason: "r"}); !errors.Is(err, i.revokeErr) {
		t.Errorf("the error is %v", err)
	}
	if len(i.events) > 0 || len(i.closed) > 0 {
		t.Errorf("recorded %v, closed %v", i.events, i.closed)
	}
}

func TestRequestsThatAreMistakes(t *testing.T) {
	long := strings.Repeat("x", maxReason+1)
	revoke := func(r admin.RevokeRequest) func(context.Context, admin.Operations) error {
		return func(ctx context.Context, o admin.Operations) error {
			_, err := o.Credentials.Revoke(ctx, ada, r)
			return err
		}
	}
	closeTunnels := func(r admin.CloseRequest) func(context.Context, admin.Operations) error {
		return func(ctx context.Context, o admin.Operations) error {
			_, err := o.Tunnels.Close(ctx, ada, r)
			return err
		}
	}
	step := admin.Subject{Step: stepA}
	for name, request := range map[string]func(context.Context, admin.Operations) error{
		"no subject":           revoke(admin.RevokeRequest{For: time.Hour, Reason: "r"}),
		"two subjects":         revoke(admin.RevokeRequest{Subject: admin.Subject{Step: stepA, Repository: repository}, For: time.Hour, Reason: "r"}),
		"not a UUID":           revoke(admin.RevokeRequest{Subject: admin.Subject{Step: "x"}, For: time.Hour, Reason: "r"}),
		"unknown repository":   revoke(admin.RevokeRequest{Subject: admin.Subject{Repository: "acme/other"}, For: time.Hour, Reason: "r"}),
		"no reason":            revoke(admin.RevokeRequest{Subject: step, For: time.Hour, Reason: " "}),
		"long reason":          revoke(admin.RevokeRequest{Subject: step, For: time.Hour, Reason: long}),
		"reason with U+0000":   revoke(admin.RevokeRequest{Subject: step, For: time.Hour, Reason: "a\x00"}),
		"reason not UTF-8":     revoke(admin.RevokeRequest{Subject: step, For: time.Hour, Reason: "\xff"}),
		"no duration":          revoke(admin.RevokeRequest{Subject: step, Reason: "r"}),
		"no tunnel":            closeTunnels(admin.CloseRequest{}),
		"too many tunnels":     closeTunnels(admin.CloseRequest{IDs: make([]string, maxIDs+1)}),
		"long reason to close": closeTunnels(admin.CloseRequest{IDs: []string{"a"}, Reason: long}),
		"long reason to lift": func(ctx context.Context, o admin.Operations) error {
			_, err := o.Tunnels.LiftEmergencyStop(ctx, ada, admin.StopRequest{Reason: long})
			return err
		},
	} {
		i, operations := start(t)
		if _, mistake := errors.AsType[*admin.Mistake](request(t.Context(), operations)); !mistake {
			t.Errorf("%s: not a mistake", name)
		}
		if len(i.events) > 0 || len(i.closed) > 0 || len(i.revocations) > 0 {
			t.Errorf("%s: recorded %v, closed %v, revoked %v", name, i.events, i.closed, i.revocations)
		}
	}
}

func TestUnrevokeIsRecordedFirst(t *testing.T) {
	i, operations := start(t)
	request := admin.UnrevokeRequest{Subject: admin.Subject{Step: stepA}, Reason: "found"}
	if out, err := operations.Credentials.Unrevoke(t.Context(), ada, request); err != nil || out.Lifted != 0 || len(i.events) > 0 {
		t.Errorf("without a revocation: %+v, %v, recorded %v", out, err, i.events)
	}
	i.revocations = []identity.Revocation{{Scope: identity.ScopeStep, UUID: stepA}}
	i.recordErr = errors.New("no database")
	if _, err := operations.Credentials.Unrevoke(t.Context(), ada, request); !errors.Is(err, i.recordErr) || len(i.revocations) != 1 {
		t.Errorf("not recorded: %v, and %d revocations are in force", err, len(i.revocations))
	}
	i.recordErr = nil
	if out, err := operations.Credentials.Unrevoke(t.Context(), ada, request); err != nil || out.Lifted != 1 || out.UUID != stepA {
		t.Errorf("%+v, %v", out, err)
	}
	i.only(t, "token_unrevoked")
}

func TestCloseNamesTheUnknownTunnels(t *testing.T) {
	i, operations := start(t)
	out, err := operations.Tunnels.Close(t.Context(), ada, admin.CloseRequest{IDs: []string{"b", "z"}, Reason: "r"})
	if err != nil || out.Closed != 1 || !slices.Equal(out.Unknown, []string{"z"}) {
		t.Errorf("%+v, %v", out, err)
	}
	if _, attributes := i.only(t, "tunnels_closed"); attributes["decision_ids"] != "b" {
		t.Errorf("recorded %v", attributes)
	}
}

// TestEmergencyStopNeedsNoLog: an instance is stopped although the event cannot be recorded
// and the reason is not accepted; it is started again only after that is recorded.
func TestEmergencyStopNeedsNoLog(t *testing.T) {
	i, operations := start(t)
	i.recordErr = errors.New("no database")
	out, err := operations.Tunnels.EmergencyStop(t.Context(), ada, admin.StopRequest{Reason: strings.Repeat("x", maxReason+1)})
	if err != nil || !i.stopped || out.Closed != 3 || out.Reason != "" || len(out.Warnings) != 1 || !strings.Contains(out.Warnings[0], "no database") {
		t.Errorf("%+v, %v, stopped %t", out, err, i.stopped)
	}
	if list, err := operations.Tunnels.List(t.Context()); err != nil || list.Stop == nil || list.Stop.By != ada.String() {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := operations.Tunnels.LiftEmergencyStop(t.Context(), ada, admin.StopRequest{}); !errors.Is(err, i.recordErr) || !i.stopped {
		t.Errorf("lifted without an event: %v, stopped %t", err, i.stopped)
	}
	i.recordErr = nil
	if lifted, err := operations.Tunnels.LiftEmergencyStop(t.Context(), ada, admin.StopRequest{}); err != nil || i.stopped || lifted.Was == nil {
		t.Errorf("%+v, %v, stopped %t", lifted, err, i.stopped)
	}
	i.only(t, "emergency_stop_lifted")
}

func TestListDescribesTunnels(t *testing.T) {
	_, operations := start(t)
	list, err := operations.Tunnels.List(t.Context())
	if err != nil || len(list.Tunnels) != 3 || list.Stop != nil {
		t.Fatalf("%+v, %v", list, err)
	}
	for _, tunnel := range list.Tunnels {
		if known := tunnel.ID != "nobody"; (tunnel.Repository == "acme/payments") != known || (tunnel.StepUUID != "") != known {
			t.Errorf("%+v", tunnel)
		}
	}
}

func TestReloadIsRecordedFirst(t *testing.T) {
	i, operations := start(t)
	i.recordErr = errors.New("no database")
	if _, err := operations.Policy.Reload(t.Context(), ada); !errors.Is(err, i.recordErr) || i.reloads > 0 {
		t.Errorf("%v, reloaded %d times", err, i.reloads)
	}
	i.recordErr = nil
	if state, err := operations.Policy.Reload(t.Context(), ada); err != nil || i.reloads != 1 || state.Revision != "sha256:1" {
		t.Errorf("%+v, %v", state, err)
	}
	i.only(t, "policy_reload")
}

func TestCloseRevoked(t *testing.T) {
	i, _ := start(t)
	var log bytes.Buffer
	CloseRevoked(i, []identity.Revocation{{Scope: identity.ScopeStep, UUID: stepB, By: "grace"}}, slog.New(slog.NewTextHandler(&log, nil)))
	if closed := i.closed[proxy.CauseRevoked]; !slices.Equal(closed, []string{"b"}) {
		t.Errorf("closed %v", closed)
	}
	if !strings.Contains(log.String(), "operator=grace") || !strings.Contains(log.String(), "tunnels=1") {
		t.Errorf("logged %s", log.String())
	}
}
