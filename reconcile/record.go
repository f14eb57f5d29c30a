package reconcile

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
)

// recordRound puts one reconciliation recorded, and what it found missing.
func (r *Reconciler) recordRound(ctx context.Context, s Session, v *workspaceScan, o outcome, trouble error) error {
	what := "whole"
	if trouble != nil {
		what = "partial"
	}
	e := &audit.Event{
		Workspace: v.workspace.Slug, Message: shown(o, v.since, trouble),
		Attributes: []audit.Attribute{
			{Name: "outcome", Value: what},
			{Name: "since", Value: stamp(v.since)}, {Name: "until", Value: stamp(v.began)},
			{Name: "repositories", Value: names(v.scanned)},
		},
	}
	for _, outcome := range identity.ScanOutcomes {
		e.Attributes = append(e.Attributes, audit.Attribute{Name: "repositories_" + string(outcome), Value: strconv.Itoa(o.repositories[outcome])})
	}
	for _, class := range identity.DeploymentClasses {
		e.Attributes = append(e.Attributes, audit.Attribute{Name: "deployments_" + string(class), Value: strconv.Itoa(o.deployments[class])})
	}
	if err := r.recordReconciliation(ctx, s, v.id, v.workspace.UUID, e); err != nil {
		return err
	}
	return r.recordMissing(ctx, s, v.names)
}

// recordLeft records what a process that ended, or an error, has left:
// reconciliations of the last month that no event names.
func (r *Reconciler) recordLeft(ctx context.Context, s Session) error {
	left, _, err := s.Unrecorded(ctx, r.config.Now().Add(-31*24*time.Hour))
	if err != nil {
		return err
	}
	for id, workspace := range left {
		e := &audit.Event{Message: "a reconciliation was interrupted", Attributes: []audit.Attribute{{Name: "outcome", Value: "interrupted"}}}
		if err := r.recordReconciliation(ctx, s, id, workspace, e); err != nil {
			return err
		}
	}
	return r.recordMissing(ctx, s, nil)
}

func (r *Reconciler) recordReconciliation(ctx context.Context, s Session, id, workspace string, e *audit.Event) error {
	digest, err := s.Digest(ctx, id)
	if err != nil {
		return err
	}
	e.Time, e.Kind, e.WorkspaceUUID = r.config.Now(), audit.KindReconciled, workspace
	e.Attributes = append([]audit.Attribute{{Name: "reconciliation", Value: id}, {Name: "digest", Value: hex.EncodeToString(digest)}}, e.Attributes...)
	return r.record(ctx, e)
}

func (r *Reconciler) record(ctx context.Context, e *audit.Event) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if err := r.config.Record(ctx, e); err != nil {
		return fmt.Errorf("record an event of kind %s: %w", e.Kind, err)
	}
	return nil
}

// recordMissing puts each missing run recorded that is not yet, once: in which
// reconciliation it was found does not matter.
func (r *Reconciler) recordMissing(ctx context.Context, s Session, names map[string]string) error {
	_, missing, err := s.Unrecorded(ctx, r.config.Now().Add(-r.config.Lookback-maxRunDuration))
	if err != nil {
		return err
	}
	for _, f := range missing {
		if r.recorded[f.UUID] {
			continue // the log has it, or will: its answer was an error
		}
		r.recorded[f.UUID] = true
		r.config.Log.WarnContext(ctx, "a deployment did not come through here", "class", string(f.Class), "repository", names[f.RepositoryUUID],
			"repository_uuid", f.RepositoryUUID, "deployment_uuid", f.DeploymentUUID, "pipeline_uuid", f.PipelineUUID, "step_uuid", f.StepUUID, "build_number", f.BuildNumber)
		if err := r.record(ctx, missingEvent(&f, names[f.RepositoryUUID], r.config.Now())); err != nil {
			return err
		}
	}
	return nil
}

func missingEvent(f *identity.DeploymentFinding, repository string, now time.Time) *audit.Event {
	e := &audit.Event{
		Time: now, Kind: audit.KindDeploymentUnobserved,
		WorkspaceUUID: f.WorkspaceUUID, RepositoryUUID: f.RepositoryUUID, Repository: repository,
		DeploymentUUID: f.DeploymentUUID, PipelineUUID: f.PipelineUUID, StepUUID: f.StepUUID,
		Message: "Bitbucket knows of a deployment whose step is not in this log",
		Attributes: []audit.Attribute{
			{Name: "deployment_run_uuid", Value: f.UUID}, {Name: "class", Value: string(f.Class)}, {Name: "state", Value: string(f.State)},
			{Name: "reconciliation", Value: f.Reconciliation},
		},
	}
	add := func(name, value string) {
		if value != "" {
			e.Attributes = append(e.Attributes, audit.Attribute{Name: name, Value: value})
		}
	}
	if f.BuildNumber > 0 {
		add("build_number", strconv.FormatInt(f.BuildNumber, 10))
	}
	add("started_at", stamp(f.Started))
	add("completed_at", stamp(f.Completed))
	add("detail", f.Detail)
	return e
}

// shown summarizes a reconciliation in a line.
func shown(o outcome, since time.Time, trouble error) string {
	var b strings.Builder
	all, scanned := 0, 0
	for outcome, n := range o.repositories {
		all += n
		if outcome.Conclusive() {
			scanned += n
		}
	}
	total := 0
	for _, n := range o.deployments {
		total += n
	}
	fmt.Fprintf(&b, "%d of %d repositories reported %d deployments since %s", scanned, all, total, stamp(since))
	for _, class := range identity.DeploymentClasses {
		if n := o.deployments[class]; n > 0 {
			fmt.Fprintf(&b, ", %d %s", n, class)
		}
	}
	if trouble != nil {
		b.WriteString("; not whole: " + trouble.Error())
	}
	return b.String()
}

// names lists as many as an attribute holds.
func names(list []string) string {
	const most = 1900
	list = slices.Sorted(slices.Values(list))
	var b strings.Builder
	for i, name := range list {
		if b.Len()+len(name) > most {
			fmt.Fprintf(&b, " and %d more", len(list)-i)
			break
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(name)
	}
	return b.String()
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// timeOf returns the time in a UUIDv7; zero where there is none.
func timeOf(id string) time.Time {
	if len(id) != 36 {
		return time.Time{}
	}
	ms, err := strconv.ParseInt(id[:8]+id[9:13], 16, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

var errNotReady = errors.New("the audit log is not whole at the moment")

// NotReady is the error of Config.Ready for a reason.
func NotReady(why string) error { return fmt.Errorf("%w: %s", errNotReady, why) }
