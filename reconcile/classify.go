package reconcile

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/sallyport/sallyport/identity"
)

// observed has the steps and pipelines that are in the log.
type observed struct {
	steps     map[string]bool
	pipelines map[string]bool
	deployed  map[[2]string]bool // pipeline and environment
}

func (v *workspaceScan) observedSteps(ctx context.Context, repository string, runs []identity.DeploymentRun) (observed, error) {
	list, err := v.session.ObservedSteps(ctx, repository, runs)
	s := observed{map[string]bool{}, map[string]bool{}, map[[2]string]bool{}}
	for _, step := range list {
		s.steps[step.StepUUID] = true
		if step.PipelineUUID != "" {
			s.pipelines[step.PipelineUUID] = true
			s.deployed[[2]string{step.PipelineUUID, step.DeploymentUUID}] = step.DeploymentUUID != ""
		}
	}
	return s, err
}

// has reports whether a run's own step is in the log. Where Bitbucket does not
// name the step, one of the same pipeline that deployed to the same environment is it.
func (s observed) has(run *identity.DeploymentRun) bool {
	if run.StepUUID != "" {
		return s.steps[run.StepUUID]
	}
	return run.PipelineUUID != "" && s.deployed[[2]string{run.PipelineUUID, run.DeploymentUUID}]
}

// classify returns what is new of some runs of a repository.
func (v *workspaceScan) classify(ctx context.Context, repository string, runs []identity.DeploymentRun, known map[string]identity.DeploymentFinding) ([]identity.DeploymentFinding, error) {
	return v.classifyBy(ctx, repository, runs, known, v.class)
}

// classifyUnknown classifies without a response of Bitbucket: a run in the log is observed,
// and the others keep their class.
func (v *workspaceScan) classifyUnknown(ctx context.Context, repository string, runs []identity.DeploymentRun, known map[string]identity.DeploymentFinding, why string) ([]identity.DeploymentFinding, error) {
	return v.classifyBy(ctx, repository, runs, known, func(_ context.Context, run *identity.DeploymentRun, before identity.DeploymentFinding, _ bool) (identity.DeploymentClass, string, error) {
		switch {
		case before.Class != identity.ClassPending:
			return before.Class, before.Detail, nil
		case v.config.Now().Sub(run.Latest()) < maxRunDuration:
			return identity.ClassPending, why, nil
		}
		return identity.ClassUnknown, why, nil
	})
}

type classify func(ctx context.Context, run *identity.DeploymentRun, before identity.DeploymentFinding, pipeline bool) (identity.DeploymentClass, string, error)

func (v *workspaceScan) classifyBy(ctx context.Context, repository string, runs []identity.DeploymentRun, known map[string]identity.DeploymentFinding, class classify) ([]identity.DeploymentFinding, error) {
	if len(runs) == 0 {
		return nil, nil
	}
	inLog, err := v.observedSteps(ctx, repository, runs)
	if err != nil {
		return nil, err
	}
	var news []identity.DeploymentFinding
	for _, run := range runs {
		before := known[run.UUID]
		f := identity.DeploymentFinding{DeploymentRun: run, Class: identity.ClassObserved}
		// The log decides, and not an earlier finding, which every login that may record
		// can add. Retention keeps events for longer than the lookback.
		if !inLog.has(&run) {
			if f.Class, f.Detail, err = class(ctx, &run, before, inLog.pipelines[run.PipelineUUID]); err != nil {
				return nil, err
			}
		}
		if before.UUID != "" && same(&before, &f) {
			continue
		}
		f.Detail = short(f.Detail)
		if f.Found = v.config.Now(); !f.Found.After(before.Found.Add(time.Microsecond)) {
			f.Found = before.Found.Add(2 * time.Microsecond)
		}
		known[run.UUID] = f
		news = append(news, f)
	}
	return news, nil
}

func sameStep(a, b *identity.DeploymentRun) bool {
	return a.StepUUID == b.StepUUID && a.PipelineUUID == b.PipelineUUID
}

// same reports whether a finding is unchanged. The detail may differ: it quotes errors.
func same(a, b *identity.DeploymentFinding) bool {
	return a.Class == b.Class && a.State == b.State && sameStep(&a.DeploymentRun, &b.DeploymentRun) &&
		a.DeploymentUUID == b.DeploymentUUID && a.BuildNumber == b.BuildNumber &&
		a.Started.Equal(b.Started) && a.Completed.Equal(b.Completed)
}

// class classifies a run whose own step is not in the log. pipeline reports whether
// another step of its pipeline is.
func (v *workspaceScan) class(ctx context.Context, run *identity.DeploymentRun, before identity.DeploymentFinding, pipeline bool) (identity.DeploymentClass, string, error) {
	if detail := v.pending(run); detail != "" {
		return identity.ClassPending, detail, nil
	}
	missing := identity.ClassUnobserved
	if pipeline {
		missing = identity.ClassPipelineOnly
	}
	switch {
	case run.PipelineUUID == "":
		return identity.ClassUnknown, "Bitbucket names no pipeline", nil
	case before.Class.Missing() && sameStep(&before.DeploymentRun, run):
		return missing, before.Detail, nil // its step was fetched before
	case run.StepUUID == "" && mayNotHaveRun(run):
		return identity.ClassUnknown, "Bitbucket does not report whether it ever began", nil
	case run.StepUUID == "":
		return missing, "Bitbucket names no step: no step of its pipeline that deployed there is in the log", nil
	}
	return v.classByStep(ctx, run, missing)
}

// pending returns why a run is pending; "" if it is not.
func (v *workspaceScan) pending(run *identity.DeploymentRun) string {
	now := v.config.Now()
	switch {
	case run.State == identity.DeploymentWaiting:
		return "it was not started"
	case run.State == identity.DeploymentInProgress:
		if now.Sub(run.Began()) < maxRunDuration {
			return "it is not over"
		}
	case now.Sub(run.Latest()) < v.config.GracePeriod:
		return "it has only just ended"
	}
	return ""
}

// mayNotHaveRun reports whether a run has neither a start nor a result that needs one.
func mayNotHaveRun(run *identity.DeploymentRun) bool {
	return run.Started.IsZero() && run.State != identity.DeploymentSuccessful
}

// classByStep fetches the step of a run whose class is missing if the step ran.
func (v *workspaceScan) classByStep(ctx context.Context, run *identity.DeploymentRun, missing identity.DeploymentClass) (identity.DeploymentClass, string, error) {
	step, err := v.workspace.API.Step(ctx, run.RepositoryUUID, run.PipelineUUID, run.StepUUID)
	switch {
	case ctx.Err() != nil:
		return "", "", ctx.Err()
	case errors.Is(err, identity.ErrAbsent):
		if mayNotHaveRun(run) {
			missing = identity.ClassUnknown
		}
		return missing, "Bitbucket does not know its step any more", nil
	case err != nil:
		return identity.ClassUnknown, "its step could not be asked for: " + err.Error(), nil
	case step.Started.IsZero() && step.Over:
		return identity.ClassNotRun, "", nil
	case step.Started.IsZero():
		return identity.ClassPending, "its step has not begun", nil
	}
	return missing, "", nil
}

// short makes a text fit to be kept.
func short(text string) string {
	const most = 1000
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\ufffd"), "\x00", "")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most-3], "") + "…"
	}
	return text
}
