// Package manager keeps the latest good revision of the policy source active.
//
// A [Manager] polls the source, checks each new revision, records it in the audit log, and
// only then activates it. If a revision fails, the rejection is logged and the last good
// revision stays active, up to policy.max_age. [Checks] checks changed policies of
// repositories after the activation; the manager activates their results in batches, and
// [Rejections] has the policies that failed. A candidate policy is evaluated for the same
// decisions and decides nothing.
package manager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/age"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/worker"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego"
	"github.com/sallyport/sallyport/policy/source"
)

// Config configures a [Manager].
type Config struct {
	Config *config.Config
	// Log receives the manager's log messages.
	Log *slog.Logger
	// Git returns how to read a configured repository.
	Git GitConfig
	// Notifier is notified of the start and the end of each requested reload; may be nil.
	Notifier Notifier
}

// New returns a manager of the configured policy. [Manager.Begin] loads the first
// revision; [Manager.Close] stops the worker processes.
func New(c Config) (*Manager, error) {
	cfg, log := c.Config, c.Log
	// The input has names only if every workspace has an API. Otherwise a rule with a name
	// would silently match in one workspace and not in another.
	names := true
	for _, w := range cfg.Identity.Bitbucket {
		names = names && w.API != nil
	}
	p := &Manager{
		engine:        &rego.Engine{CacheBytes: int64(cfg.Policy.DecisionCache)},
		deaths:        make(chan policyDeath, maxDeaths),
		options:       rego.Options{Names: names, Deadline: cfg.Policy.EvaluationTimeout, OnFailure: onRepositoryFailure(cfg), Webhooks: WebhookNames(cfg)},
		maxAge:        cfg.Policy.MaxAge,
		expiryWarning: cfg.Policy.ExceptionExpiryWarning,
		kept:          source.NewKept(filepath.Join(cfg.DataDirectory, "policy")),
		history:       newPolicyHistory(),
		log:           log, notifier: c.Notifier,
		rejectionCounts: map[RejectionKind]int{},
		requests:        make(chan struct{}, 1),
	}
	p.workers = p.newWorkers(cfg)
	p.options.Workers = p.workers
	p.checks = p.newChecks()
	var err error
	if p.source, p.poll, err = newSource(cfg, c.Git); err != nil {
		return nil, err
	}
	if cfg.Policy.Candidate != nil {
		if p.candidate, err = newCandidate(cfg, p, c.Git); err != nil {
			return nil, err
		}
		p.engine.Observe, p.engine.ObserveDelivery = p.candidate.offer, p.candidate.offerDelivery
	}
	return p, nil
}

// Close stops the checks and the worker processes.
func (p *Manager) Close() {
	p.checks.Close()
	p.workers.Close()
}

// Engine returns the engine, which decides by the active revision.
func (p *Manager) Engine() *rego.Engine { return p.engine }

// Source describes the policy's source, without secrets.
func (p *Manager) Source() string { return p.source.String() }

// FromDisk reports whether the active revision is the last good revision from the disk.
func (p *Manager) FromDisk() bool { return p.fromDisk }

// Rejections returns the repositories whose policy is rejected.
func (p *Manager) Rejections() *Rejections { return &p.rejections }

// CacheStatus returns the state of the decision cache.
func (p *Manager) CacheStatus() rego.CacheStatus { return p.engine.CacheStatus() }

// WorkerStatus returns the state of the worker processes.
func (p *Manager) WorkerStatus() worker.Status { return p.workers.Status() }

// OnActivation calls f with the active revision and the number of its activation, and
// again after each later activation. It is called once, before [Manager.Follow].
func (p *Manager) OnActivation(f func(revision policy.Revision, activation uint64)) {
	p.changed = f
	f(p.engine.Current().Revision(), p.engine.Activation())
}

// UsesNames reports whether rules see names of repositories and deployments.
func (p *Manager) UsesNames() bool { return p.options.Names }

// Begin activates the first revision: the source's present revision or, if that does not
// load, the last good revision from the disk. If neither loads, it returns an error. The
// error is a [NoPolicyError] if the policy's directory is missing.
func (p *Manager) Begin(ctx context.Context) error {
	kept := p.loadLastGood()
	var after policy.Revision
	if kept != nil {
		after = kept.Snapshot.Revision()
		p.previousCommit = after.Commit
	}
	resumed, recalled := p.resume(ctx, kept)
	set, offered, err := p.load(ctx, after, resumed, recalled)
	if err == nil {
		set = p.settleBeforeActivation(ctx, set, startWait(set))
		p.log.Info("policy loaded", "revision", set.Revision().Digest, "repositories", len(set.Repositories()), "checked", set.Inspected())
		p.activate(set, offered)
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if kept == nil {
		err = fmt.Errorf("the policy in %s does not load:\n%w", p.source, err)
		if errors.Is(err, fs.ErrNotExist) { // policy.directory
			err = NoPolicyError{err}
		}
		return err
	}
	if set = cmp.Or(resumed, recalled); set == nil {
		return fmt.Errorf("the policy in %s does not load, and the one that was kept on disk does not either:\n%w", p.source, err)
	}
	p.log.Error("policy rejected at startup; loading last good revision from disk",
		"revision", set.Revision().Digest, "confirmed", kept.Confirmed.UTC().Format(time.RFC3339), "error", err)
	p.activate(p.settleBeforeActivation(ctx, set, startWait(set)), offered)
	p.fromDisk, p.current, p.failure, p.lastConfirmed = true, "", err, age.Anchor(kept.Confirmed, time.Now())
	return nil
}

// load loads and tests the source's present revision. Units that are unchanged since
// previous are not checked again. A repository that fails keeps its rules of fallback.
// previous and fallback may be nil. offered is the source's revision, as far as it is known.
func (p *Manager) load(ctx context.Context, after policy.Revision, previous, fallback *rego.Set) (set *rego.Set, offered policy.Revision, err error) {
	snapshot, err := p.source.Offer(ctx, after)
	if err != nil {
		if r, ok := errors.AsType[*source.Refusal](err); ok {
			offered.Commit = r.Commit
		}
		return nil, offered, err
	}
	options := p.options
	options.Previous, options.Fallback, options.Defer = previous, fallback, true
	set, err = rego.Load(ctx, snapshot, options)
	return set, snapshot.Revision(), err
}

// activate makes a set the active one.
func (p *Manager) activate(set *rego.Set, offered policy.Revision) {
	for _, w := range set.Warnings() {
		p.log.Warn("policy warning", "warning", w.Error())
	}
	p.engine.Swap(set)
	p.lastGood, p.fromDisk = set, false
	p.mu.Lock()
	now := time.Now()
	p.offered, p.current, p.loaded, p.lastConfirmed, p.failure, p.expired = offered, offered.Digest, now, now, nil, false
	p.mu.Unlock()
	p.activateRejections(set, now)
	if p.changed != nil {
		p.changed(set.Revision(), p.engine.Activation())
	}
}

// Follow polls the source until ctx ends. It refreshes at once for each value of reload, and
// after [Manager.RequestRefresh]. Only one goroutine may call it, once.
func (p *Manager) Follow(ctx context.Context, reload <-chan os.Signal) {
	var background sync.WaitGroup
	defer background.Wait()
	if p.candidate != nil {
		background.Go(func() { p.candidate.run(ctx) })
	}
	ticker := time.NewTicker(p.poll)
	defer ticker.Stop()
	checked, settled := p.checks.Ready(), (<-chan time.Time)(nil)
	requested, rested := (<-chan struct{})(p.requests), (<-chan time.Time)(nil)
	for {
		select {
		case <-ctx.Done():
			return
		case <-reload:
			p.reload(ctx)
		case <-checked:
			if wait := p.settle(ctx); wait > 0 {
				checked, settled = nil, time.After(wait)
			}
		case <-settled:
			checked, settled = p.checks.Ready(), nil
		case death := <-p.deaths:
			p.recordDeath(ctx, death)
		case <-requested:
			p.Refresh(ctx, false)
			took := time.Duration(p.pollDuration.Load())
			ticker.Reset(nextPoll(p.poll, took))
			requested, rested = nil, time.After(requestPause(took))
		case <-rested:
			requested, rested = p.requests, nil
		case <-ticker.C:
			p.Refresh(ctx, false)
			ticker.Reset(nextPoll(p.poll, time.Duration(p.pollDuration.Load())))
		}
	}
}

// reload refreshes at an operator's request, and notifies the service manager.
func (p *Manager) reload(ctx context.Context) {
	p.log.Info("policy reload requested")
	if p.notifier != nil {
		p.notifier.Reloading()
		defer p.notifier.Ready("serving")
	}
	p.Refresh(ctx, true)
}

// Refresh activates the source's present revision if it is new and passes. If it fails, the
// active revision stays in force, up to its maximum age. The log, an event, a metric and
// /readyz report the reason. A rejected revision is loaded again only if requested is
// set, or its retry is due.
func (p *Manager) Refresh(ctx context.Context, requested bool) {
	p.refreshMu.Lock()
	defer p.refreshMu.Unlock()
	defer p.recordExpiring(ctx)
	defer p.expire(ctx)
	began := time.Now()
	snapshot, err := p.source.Offer(ctx, p.lastGood.Revision())
	p.pollDuration.Store(int64(time.Since(began)))
	if err != nil {
		p.rejectRevision(ctx, policy.Revision{}, err)
		return
	}
	if p.alreadyLoaded(snapshot, requested) {
		if requested {
			p.recheck()
		}
		return
	}
	options := p.options
	options.Previous, options.SpareProcessor, options.Defer = p.lastGood, true, true
	set, err := rego.Load(ctx, snapshot, options)
	if err == nil {
		err = asProbeError(p.engine.Prepare(ctx, set))
	}
	if err != nil {
		p.rejectRevision(ctx, snapshot.Revision(), err)
		return
	}
	set = p.settleBeforeActivation(ctx, set, checksWait)
	if err := p.recordActivation(ctx, set, p.lastGood); err != nil {
		p.checks.Follow(p.lastGood)
		p.notRecorded(ctx, snapshot.Revision(), err)
		return
	}
	p.activate(set, snapshot.Revision())
	p.recordRejections(ctx)
	p.keep(set)
}

// alreadyLoaded reports whether the snapshot's revision was loaded before. If that revision is
// active, known records that the source confirmed it.
func (p *Manager) alreadyLoaded(snapshot *policy.Snapshot, requested bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.expired:
		return false
	case snapshot.Digest == p.current:
		if p.failure != nil {
			p.log.Info("the policy source offers the active revision again", "revision", p.lastGood.Revision().Digest)
		}
		p.offered, p.failure = snapshot.Revision(), nil
	case snapshot.Revision() != p.offered:
		return false
	default: // rejected before
		return !requested && !p.retryDue()
	}
	p.lastConfirmed = time.Now()
	if p.lastConfirmed.Sub(p.confirmedOnDisk) >= time.Minute {
		p.confirmedOnDisk = p.lastConfirmed
		if err := p.kept.Confirm(p.lastConfirmed); err != nil {
			p.log.Warn("policy", "error", err)
		}
	}
	return true
}

// expire deactivates a revision that the source has not offered for longer than
// policy.max_age, if that is set.
func (p *Manager) expire(ctx context.Context) {
	p.mu.Lock()
	over := p.maxAge > 0 && !p.expired && age.Exceeds(p.lastConfirmed, time.Now(), p.maxAge)
	p.expired = p.expired || over
	seen := p.lastConfirmed
	p.mu.Unlock()
	if !over || ctx.Err() != nil {
		return
	}
	p.engine.Swap(nil)
	p.countRejection(rejectedTooOld)
	err := fmt.Errorf("no policy is active, and every request is denied: the source last offered this revision at %s, and policy.max_age is %v",
		seen.UTC().Format(time.RFC3339), p.maxAge)
	p.log.Error("active policy exceeds policy.max_age; every request is denied", "revision", p.lastGood.Revision().Digest, "error", err)
	p.recordRejectedRevision(ctx, p.lastGood.Revision(), rejectedTooOld, err)
}
