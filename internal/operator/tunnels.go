package operator

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/admin"
	"github.com/sallyport/sallyport/proxy"
)

// tunnels implements [admin.Tunnels].
type tunnels struct{ Config }

// List lists the open tunnels of this instance.
func (t tunnels) List(context.Context) (admin.TunnelList, error) {
	list := admin.TunnelList{Tunnels: []admin.Tunnel{}, Stop: t.Stop.Current()}
	for _, info := range t.Tunnels.Tunnels() {
		out := admin.Tunnel{ID: info.Admission.ID, Since: info.Since, Target: info.Admission.Target.String(), Sent: info.Sent, Received: info.Received}
		if p := info.Admission.Principal; p != nil {
			out.Workspace, out.Repository, out.RepositoryUUID = p.Workspace.Slug, p.Repository.FullName, p.Repository.UUID
			out.StepUUID, out.Branch = p.Step.UUID, p.Branch
			if p.Deployment != nil {
				out.Deployment = cmp.Or(p.Deployment.Slug, p.Deployment.Name, p.Deployment.UUID)
			}
		}
		list.Tunnels = append(list.Tunnels, out)
	}
	return list, nil
}

// Close closes tunnels, and requests in progress, by the ids of their decisions.
func (t tunnels) Close(ctx context.Context, by admin.Operator, r admin.CloseRequest) (admin.Closed, error) {
	if len(r.IDs) == 0 || len(r.IDs) > maxIDs {
		return admin.Closed{}, &admin.Mistake{Message: fmt.Sprintf("name 1 to %d tunnels by the ids that `sallyport tunnels list` shows", maxIDs)}
	}
	if err := checkReason(r.Reason); err != nil {
		return admin.Closed{}, err
	}
	open := map[string]bool{}
	var out admin.Closed
	out.Closed = t.Tunnels.Close(proxy.CauseOperator, func(a *proxy.Admission) bool {
		requested := slices.Contains(r.IDs, a.ID)
		if requested {
			open[a.ID] = true
		}
		return requested
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
	if err := t.record(ctx, by, actionClosed, r.Reason, attribute("decision_ids", strings.Join(ids, " "))); err != nil {
		return out, fmt.Errorf("%d tunnels were closed, but %w", out.Closed, err)
	}
	return out, nil
}

// EmergencyStop refuses and closes everything before anything else can fail. A reason that
// is not accepted is dropped, and an event that cannot be recorded is a warning.
func (t tunnels) EmergencyStop(ctx context.Context, by admin.Operator, r admin.StopRequest) (admin.Stopped, error) {
	if err := checkReason(r.Reason); err != nil {
		r.Reason = ""
	}
	out := admin.Stopped{Stop: admin.Stop{Since: time.Now().UTC().Truncate(time.Second), By: by.String(), Reason: r.Reason}}
	var err error
	if out.Closed, err = t.Config.Stop.Stop(out.Stop); err != nil {
		out.Warnings = append(out.Warnings, err.Error())
	}
	if err := t.record(ctx, by, actionStopped, r.Reason, attribute("closed", strconv.Itoa(out.Closed))); err != nil {
		out.Warnings = append(out.Warnings, err.Error())
	}
	return out, nil
}

// LiftEmergencyStop lifts the stop, after it has recorded that.
func (t tunnels) LiftEmergencyStop(ctx context.Context, by admin.Operator, r admin.StopRequest) (admin.StopLifted, error) {
	if err := checkReason(r.Reason); err != nil {
		return admin.StopLifted{}, err
	}
	was, err := t.Config.Stop.Lift(func(was admin.Stop) error {
		if err := t.record(ctx, by, actionStopLifted, r.Reason, attribute("stopped_since", was.Since.Format(time.RFC3339)), attribute("stopped_by", was.By)); err != nil {
			return fmt.Errorf("everything stays stopped: %w", err)
		}
		return nil
	})
	return admin.StopLifted{Was: was}, err
}
