package manager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/pause"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego"
	"github.com/sallyport/sallyport/policy/source"
)

// Bounds of what a candidate may take.
const (
	candidateQueue       = 1024   // decisions that wait for their evaluation; more are dropped and counted
	maxCandidateRecorded = 10_000 // known differences, which are not recorded again
	candidateRecords     = 20     // new differences that are recorded in a second; more are counted only
)

func newCandidate(cfg *config.Config, p *Manager, git GitConfig) (*candidate, error) {
	c := &candidate{
		poll: p.poll, options: p.options, manager: p, log: p.log.With("candidate", true),
		queue: make(chan offered, candidateQueue), recorded: map[string]bool{},
		requests: make(chan struct{}, 1),
	}
	if directory := cfg.Policy.Candidate.Directory; directory != "" {
		c.source, c.poll = folderSource{source.NewFolder(directory)}, directoryPoll
		return c, nil
	}
	g, err := git(cfg, "candidate")
	if err != nil {
		return nil, err
	}
	// The branch of a candidate may be rewritten.
	g.Branch, g.Tag, g.AllowRewind = cfg.Policy.Candidate.Branch, "", true
	c.source, err = source.NewGit(g)
	return c, err
}

// offer queues a decision, and never waits.
func (c *candidate) offer(d policy.Decision) { c.enqueue(offered{request: d}) }

func (c *candidate) enqueue(o offered) {
	if c.set.Load() == nil || len(o.request.Input) == 0 && len(o.delivery.Input) == 0 {
		return
	}
	select {
	case c.queue <- o:
	default:
		c.dropped.Add(1)
	}
}

// run polls the source and evaluates queued decisions until ctx ends.
func (c *candidate) run(ctx context.Context) {
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case o := <-c.queue:
				if len(o.delivery.Input) > 0 {
					c.evaluateDelivery(ctx, o.delivery)
				} else {
					c.evaluate(ctx, o.request)
				}
			}
		}
	})
	ticker := time.NewTicker(c.poll)
	defer ticker.Stop()
	for {
		began := time.Now()
		c.refresh(ctx)
		took := time.Since(began)
		ticker.Reset(nextPoll(c.poll, took))
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-c.requests:
			if !pause.For(ctx, requestPause(took)) {
				return
			}
		}
	}
}

// refresh loads the source's state if it is new. A state that does not load is reported
// once, and the previous candidate stays active.
func (c *candidate) refresh(ctx context.Context) {
	snapshot, err := c.source.Offer(ctx, policy.Revision{})
	if ctx.Err() != nil {
		return
	}
	digest := ""
	if err == nil {
		digest = snapshot.Digest
	}
	c.mu.Lock()
	same := digest == c.offered && (digest != "" || c.failure != nil)
	c.offered = digest
	c.mu.Unlock()
	if same {
		return
	}
	var set *rego.Set
	if err == nil {
		options := c.options
		options.Previous, options.SpareProcessor, options.Background = c.set.Load(), true, true
		// A repository whose policy fails keeps its rules, as it would after the merge.
		options.Fallback = c.manager.engine.Current()
		set, err = rego.Load(ctx, snapshot, options)
	}
	if err == nil {
		// Its events name the revision, and can be evaluated again like all others.
		err = c.manager.audit.PutPolicy(ctx, set.Revision().Digest, set.Snapshot().Content())
	}
	c.mu.Lock()
	c.failure = err
	c.mu.Unlock()
	if err != nil {
		c.log.Warn("candidate policy rejected", "kind", string(kindOf(err)), "error", err)
		return
	}
	c.set.Store(set)
	for _, r := range set.Rejected() {
		c.log.Warn("policy of a repository rejected in the candidate", "revision", set.Revision().Digest, "repository", r.Repository, "in_force", InForce(&r), "error", r.Failure)
	}
	c.log.Info("candidate policy active", "revision", set.Revision().Digest, "commit", set.Revision().Commit)
}

// evaluate evaluates the candidate for the input of a decision, at the decision's time.
func (c *candidate) evaluate(ctx context.Context, decided policy.Decision) {
	set := c.set.Load()
	if set == nil {
		return
	}
	would, err := set.Replay(ctx, decided.Input)
	if ctx.Err() != nil {
		return
	}
	c.evaluated.Add(1)
	if err != nil {
		c.failed.Add(1)
	}
	if would.Verdict == decided.Verdict && would.WouldDeny == decided.WouldDeny {
		return
	}
	if stricter(would, decided) {
		c.closes.Add(1)
	} else {
		c.opens.Add(1)
	}
	c.record(ctx, decided, would, err)
}

// stricter reports whether the candidate passes less. A denial that report mode lets pass
// counts as a denial.
func stricter(would, decided policy.Decision) bool {
	if would.Verdict != decided.Verdict {
		return would.Verdict == policy.Deny
	}
	return would.WouldDeny
}

// record records a difference, once for each kind of request and each revision.
func (c *candidate) record(ctx context.Context, decided, would policy.Decision, failure error) {
	var input struct {
		Principal struct {
			Workspace  struct{ UUID, Slug string }
			Repository struct {
				UUID, Project string
				FullName      string `json:"full_name"`
			}
			Deployment struct{ UUID, Name, Type string }
			Branch     string
		}
		Action string
		Target struct {
			Scheme, Host string
			Port         uint16
		}
	}
	if err := json.Unmarshal(decided.Input, &input); err != nil {
		return
	}
	p, t := input.Principal, input.Target
	key := fmt.Sprint(p.Repository.UUID, p.Deployment.UUID, input.Action, t.Host, t.Port, decided.Revision.Digest, would.Revision.Digest, decided.Verdict, would.Verdict, would.WouldDeny)
	c.recordOnce(ctx, key, failure, &audit.Event{
		Kind:          audit.KindCandidateMismatch,
		WorkspaceUUID: p.Workspace.UUID, Workspace: p.Workspace.Slug, RepositoryUUID: p.Repository.UUID, Repository: p.Repository.FullName, Project: p.Repository.Project,
		DeploymentUUID: p.Deployment.UUID, Deployment: p.Deployment.Name, DeploymentType: p.Deployment.Type, Branch: p.Branch,
		Action: input.Action, Scheme: t.Scheme, Host: t.Host, Port: t.Port,
		Verdict: would.Verdict.String(), Mode: would.Mode.String(), WouldDeny: would.WouldDeny, Reason: string(would.Reason),
		Rule: would.Rule, Rules: would.Rules, Message: would.Message, Revision: would.Revision.Digest, Commit: would.Revision.Commit, RepositoryRevision: would.RepositoryRevision.Digest,
		Attributes: []audit.Attribute{
			{Name: "decided_verdict", Value: decided.Verdict.String()}, {Name: "decided_reason", Value: string(decided.Reason)},
			{Name: "decided_rule", Value: decided.Rule}, {Name: "decided_revision", Value: decided.Revision.Digest},
		},
		Input: decided.Input,
	})
}

// recordOnce records a difference that was not recorded before, within a rate.
func (c *candidate) recordOnce(ctx context.Context, key string, failure error, e *audit.Event) {
	if c.recorded[key] {
		return
	}
	now := time.Now()
	if now.Sub(c.windowStart) >= time.Second {
		c.windowStart, c.recordedInWindow = now, 0
	}
	if c.recordedInWindow >= candidateRecords {
		return // a repeated request or delivery records it
	}
	c.recordedInWindow++
	e.Time = now
	if failure != nil {
		e.Attributes = append(e.Attributes, audit.Attribute{Name: "error", Value: failure.Error()})
	}
	if err := c.manager.audit.Record(ctx, e); err != nil {
		if !errors.Is(err, context.Canceled) {
			c.log.Error("candidate mismatch not recorded", "error", err)
		}
		return
	}
	if len(c.recorded) >= maxCandidateRecorded {
		clear(c.recorded)
	}
	c.recorded[key] = true
}

// detail is the part of /readyz about the candidate.
func (c *candidate) detail() map[string]string {
	d := map[string]string{"source": c.source.String()}
	if set := c.set.Load(); set != nil {
		d["revision"] = set.Revision().Digest
		if rejected := set.Rejected(); len(rejected) > 0 {
			d["rejected_repositories"] = rejectedNames(rejected)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure != nil {
		d["last_reload_error"] = c.failure.Error()
	}
	return d
}

// CandidateStatus counts what a candidate policy has evaluated. All is 0 where there
// is none.
type CandidateStatus struct {
	Configured                                bool
	Evaluated, Opens, Closes, Dropped, Failed int64
	Reroutes                                  int64 // webhook deliveries that pass in both cases, with other routes
	Rejected                                  int   // repositories whose policy is rejected in the candidate
}

func (p *Manager) CandidateStatus() CandidateStatus {
	c := p.candidate
	if c == nil {
		return CandidateStatus{}
	}
	st := CandidateStatus{
		Configured: true, Evaluated: c.evaluated.Load(), Opens: c.opens.Load(), Closes: c.closes.Load(),
		Reroutes: c.reroutes.Load(), Dropped: c.dropped.Load(), Failed: c.failed.Load(),
	}
	if set := c.set.Load(); set != nil {
		st.Rejected = len(set.Rejected())
	}
	return st
}

// CandidateDetail is what /readyz reports of the candidate. It is called only where
// there is one.
func (p *Manager) CandidateDetail() any { return p.candidate.detail() }
