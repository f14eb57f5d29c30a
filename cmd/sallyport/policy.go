package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	auditlog "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/worker"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/manager"
	"github.com/sallyport/sallyport/policy/rego"
	"github.com/sallyport/sallyport/policy/source"
)

// directoryPoll is how often the policy directory is compared with what decides.
const directoryPoll = 5 * time.Second

// policySource is where policy comes from.
type policySource interface {
	// Offer returns what the source has now. after is the revision that decides,
	// empty at the start: a source with a history refuses what does not follow on
	// it. The error is of type *source.Refusal where the source answered.
	Offer(ctx context.Context, after policy.Revision) (*policy.Snapshot, error)
	// String names the source, without a secret.
	String() string
}

// policyHolder keeps the engine at the latest good revision of the source.
type policyHolder struct {
	engine    *rego.Engine
	workers   *worker.Pool
	deaths    chan policyDeath // that are to be recorded
	source    policySource
	poll      time.Duration
	maxAge    time.Duration // 0: none
	kept      *source.Kept
	options   rego.Options
	log       *slog.Logger
	audit     *auditlog.Log
	notify    *notifier
	before    string                                            // the commit that decided in an earlier process, as far as the disk tells
	activated func()                                            // told of each commit that began to decide; nil: nobody
	changed   func(revision policy.Revision, activation uint64) // called with each activation; nil: nobody

	checks     *manager.Checks    // of repositories whose policy has changed
	rejections manager.Rejections // of repositories, in the active revision
	unrecorded []rego.Rejection   // of them, those that no event reports yet; of the one refresh

	turn      sync.Mutex // one refresh at a time
	good      *rego.Set  // the latest that was taken; decides unless it is too old
	fromDisk  bool       // good was taken from the disk at the start
	history   *policyHistory
	notice    time.Duration   // how long before an exception ends it is announced
	announced map[string]bool // exceptions whose end was, by their key
	candidate *candidate      // nil: none
	confirmed time.Time       // the time on disk
	keptAt    time.Time       // when the last good policy was written to disk
	looked    atomic.Int64    // how many nanoseconds the latest check the source took

	mu      sync.Mutex
	offered policy.Revision // the latest state of the source; its digest is empty where it could not be read
	current string          // and of the one that decides; empty where that is from the disk
	loaded  time.Time       // when the current revision began to decide
	seen    time.Time       // when the source was last seen to offer it
	failure error           // why the latest state does not decide; nil if it does
	retries int             // how often it was loaded again, a loaded machine being a possible cause
	retryAt time.Time       // when it is loaded again
	waiting policy.Revision // a good state that could not be recorded
	tooOld  bool            // nothing decides, for the good one is older than it may be
	refused map[refusalKind]int
}

func newPolicyHolder(cfg *config.Config, log *slog.Logger) (*policyHolder, error) {
	// Names are in the input only where every workspace has them: a policy that
	// holds for one and silently not for another would be worse than none.
	names := true
	for _, w := range cfg.Identity.Bitbucket {
		names = names && w.API != nil
	}
	p := &policyHolder{
		engine:  new(rego.Engine),
		deaths:  make(chan policyDeath, maxDeaths),
		options: rego.Options{Names: names, Deadline: cfg.Policy.EvaluationTimeout, OnFailure: onRepositoryFailure(cfg)},
		maxAge:  cfg.Policy.MaxAge,
		notice:  cfg.Policy.ExceptionExpiryWarning,
		kept:    source.NewKept(filepath.Join(cfg.DataDirectory, "policy")),
		history: newPolicyHistory(),
		log:     log,
		refused: map[refusalKind]int{},
	}
	p.workers = p.newWorkers(cfg)
	p.options.Workers = p.workers
	p.checks = p.newChecks()
	var err error
	if p.source, p.poll, err = newPolicySource(cfg); err != nil {
		return nil, err
	}
	if cfg.Policy.Candidate != nil {
		if p.candidate, err = newCandidate(cfg, p); err != nil {
			return nil, err
		}
		p.engine.Observe = p.candidate.offer
	}
	return p, nil
}

// loadPolicy makes the first policy decide: what the source offers, or, where
// that cannot be had or is no good, what decided last. Without either the start
// ends.
func (s *server) loadPolicy(ctx context.Context) error {
	var err error
	if s.policy, err = newPolicyHolder(s.config, s.log.With("component", "policy")); err != nil {
		return err
	}
	s.atClose(s.policy.workers.Close)
	s.atClose(s.policy.checks.Close)
	s.policy.notify = s.notify
	return s.policy.begin(ctx)
}

func (p *policyHolder) begin(ctx context.Context) error {
	kept := p.lastGood()
	var after policy.Revision
	if kept != nil {
		after = kept.Snapshot.Revision()
		p.before = after.Commit
	}
	resumed, recalled := p.resume(ctx, kept)
	set, offered, err := p.obtain(ctx, after, resumed, recalled)
	if err == nil {
		set = p.settleEarly(ctx, set, startWait(set))
		p.log.Info("policy loaded", "revision", set.Revision().Digest, "repositories", len(set.Repositories()), "checked", set.Inspected())
		p.took(set, offered)
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if kept == nil {
		err = fmt.Errorf("the policy in %s does not load:\n%w", p.source, err)
		if errors.Is(err, fs.ErrNotExist) { // policy.directory
			err = cli.Invalid(err)
		}
		return err
	}
	if set = cmp.Or(resumed, recalled); set == nil {
		return fmt.Errorf("the policy in %s does not load, and the one that was kept on disk does not either:\n%w", p.source, err)
	}
	p.log.Error("policy rejected at startup; loading last good revision from disk",
		"revision", set.Revision().Digest, "confirmed", kept.Confirmed.UTC().Format(time.RFC3339), "error", err)
	p.took(p.settleEarly(ctx, set, startWait(set)), offered)
	p.fromDisk, p.current, p.failure, p.seen = true, "", err, kept.Confirmed
	return nil
}

// lastGood is what was kept on disk, if it may be used.
func (p *policyHolder) lastGood() *source.KeptPolicy {
	kept, err := p.kept.Load()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		p.log.Error("read last good policy from disk failed", "error", err)
		return nil
	case kept.Origin != p.source.String():
		p.log.Info("last good policy on disk is from another source; ignored", "source", kept.Origin)
		return nil
	case p.maxAge > 0 && time.Since(kept.Confirmed) > p.maxAge:
		p.log.Warn("last good policy on disk exceeds policy.max_age", "confirmed", kept.Confirmed.UTC().Format(time.RFC3339), "max_age", p.maxAge.String())
		return nil
	}
	return kept
}

// obtain gets what the source offers and loads it: strictly compiled, and with
// its own tests run. What is the same in previous is not checked again; fallback has the
// rules of a repository that fails; both may be nil. offered is the state that the
// source has, as far as it is known.
func (p *policyHolder) obtain(ctx context.Context, after policy.Revision, previous, fallback *rego.Set) (set *rego.Set, offered policy.Revision, err error) {
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

// took notes a set that decides from now on.
func (p *policyHolder) took(set *rego.Set, offered policy.Revision) {
	for _, w := range set.Warnings() {
		p.log.Warn("policy warning", "warning", w.Error())
	}
	p.engine.Swap(set)
	p.good, p.fromDisk = set, false
	p.mu.Lock()
	now := time.Now()
	p.offered, p.current, p.loaded, p.seen, p.failure, p.tooOld = offered, offered.Digest, now, now, nil, false
	p.mu.Unlock()
	p.noteRejections(set, now)
	if p.changed != nil {
		p.changed(set.Revision(), p.engine.Activation())
	}
}

// announcePolicy keeps the first policy's content and records that it decides,
// before it does.
func (s *server) announcePolicy(ctx context.Context) error {
	s.policy.audit = s.audit
	return s.policy.announceFirst(ctx)
}

// follow looks for a new state of the source from time to time, and at once when
// asked to, until ctx ends.
func (p *policyHolder) follow(ctx context.Context, reload <-chan os.Signal) {
	var beside sync.WaitGroup
	defer beside.Wait()
	if p.candidate != nil {
		beside.Go(func() { p.candidate.run(ctx) })
	}
	ticker := time.NewTicker(p.poll)
	defer ticker.Stop()
	checked, settled := p.checks.Ready(), (<-chan time.Time)(nil)
	for {
		select {
		case <-ctx.Done():
			return
		case <-reload:
			p.log.Info("policy reload requested")
			p.notify.reloading()
			p.refresh(ctx, true)
			p.notify.ready("serving")
		case <-checked:
			if wait := p.settle(ctx); wait > 0 {
				checked, settled = nil, time.After(wait)
			}
		case <-settled:
			checked, settled = p.checks.Ready(), nil
		case death := <-p.deaths:
			p.recordDeath(ctx, death)
		case <-ticker.C:
			p.refresh(ctx, false)
			ticker.Reset(untilNextLook(p.poll, time.Duration(p.looked.Load())))
		}
	}
}

// refresh takes the source's state if it is new and good. Otherwise the current
// revision continues deciding, up to its age, and the log, an event, a metric and
// /readyz say why. A state that was refused is not checked again unless asked for.
func (p *policyHolder) refresh(ctx context.Context, asked bool) {
	p.turn.Lock()
	defer p.turn.Unlock()
	defer p.announceExceptions(ctx)
	defer p.expire(ctx)
	began := time.Now()
	snapshot, err := p.source.Offer(ctx, p.good.Revision())
	p.looked.Store(int64(time.Since(began)))
	if err != nil {
		p.refuse(ctx, policy.Revision{}, err)
		return
	}
	if p.known(snapshot, asked) {
		if asked {
			p.recheck()
		}
		return
	}
	options := p.options
	options.Previous, options.Beside, options.Defer = p.good, true, true
	set, err := rego.Load(ctx, snapshot, options)
	if err == nil {
		err = probed(p.engine.Prepare(ctx, set))
	}
	if err != nil {
		p.refuse(ctx, snapshot.Revision(), err)
		return
	}
	set = p.settleEarly(ctx, set, checksWait)
	if err := p.announce(ctx, set, p.good); err != nil {
		p.checks.Follow(p.good)
		p.notRecorded(ctx, snapshot.Revision(), err)
		return
	}
	p.took(set, snapshot.Revision())
	p.recordRejections(ctx)
	p.keep(set)
}

// known reports whether a state was checked before, and confirms it if it is
// the one that decides.
func (p *policyHolder) known(snapshot *policy.Snapshot, asked bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.tooOld:
		return false
	case snapshot.Digest == p.current:
		if p.failure != nil {
			p.log.Info("the policy source offers the active revision again", "revision", p.good.Revision().Digest)
		}
		p.offered, p.failure = snapshot.Revision(), nil
	case snapshot.Revision() != p.offered:
		return false
	default: // refused before
		return !asked && !p.retryDue()
	}
	p.seen = time.Now()
	if p.seen.Sub(p.confirmed) >= time.Minute {
		p.confirmed = p.seen
		if err := p.kept.Confirm(p.seen); err != nil {
			p.log.Warn("policy", "error", err)
		}
	}
	return true
}

// keep puts what decides on disk, for a start without the source. That it cannot
// is no reason not to decide.
func (p *policyHolder) keep(set *rego.Set) {
	p.confirmed = time.Now()
	p.keptAt = p.confirmed
	err := p.kept.Save(source.KeptPolicy{Snapshot: set.Snapshot(), Origin: p.source.String(), Confirmed: p.confirmed, Findings: set.Findings(), Repositories: set.Kept()})
	if err != nil {
		p.log.Error("write active policy to disk failed", "error", err)
	}
}

// expire ends the deciding of a revision that its source has not offered for too
// long, where the operator has set an end.
func (p *policyHolder) expire(ctx context.Context) {
	p.mu.Lock()
	over := p.maxAge > 0 && !p.tooOld && time.Since(p.seen) > p.maxAge
	p.tooOld = p.tooOld || over
	seen := p.seen
	p.mu.Unlock()
	if !over || ctx.Err() != nil {
		return
	}
	p.engine.Swap(nil)
	p.count(refusedTooOld)
	err := fmt.Errorf("nothing decides, and everything is refused: the source was last seen to offer this revision at %s, and policy.max_age is %v",
		seen.UTC().Format(time.RFC3339), p.maxAge)
	p.log.Error("active policy exceeds policy.max_age; every request is denied", "revision", p.good.Revision().Digest, "error", err)
	p.recordRefusal(ctx, p.good.Revision(), refusedTooOld, err)
}

// ready is an error only where nothing decides. A new state that was refused is
// a detail: the instance continues with the last good one.
func (p *policyHolder) ready() error {
	if p.engine.Current() != nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tooOld {
		return fmt.Errorf("no policy decides: the source was last seen to offer the last good one at %s, and policy.max_age is %v", p.seen.UTC().Format(time.RFC3339), p.maxAge)
	}
	return errors.New("no policy decides")
}

// detail is what /readyz tells of the policy.
func (p *policyHolder) detail() any {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := map[string]string{
		"source": p.source.String(), "since": p.loaded.UTC().Format(time.RFC3339), "confirmed": p.seen.UTC().Format(time.RFC3339),
	}
	if set := p.engine.Current(); set != nil {
		d["revision"] = set.Revision().Digest
		if commit := set.Revision().Commit; commit != "" {
			d["commit"] = commit
		}
		if refused := set.Refused(); len(refused) > 0 {
			// At most some: each of them has its error in the log when it is asked for.
			d["refused_repositories"] = strings.Join(refused[:min(len(refused), 20)], " ")
		}
	}
	if pending := p.pending(); len(pending) > 0 {
		d["pending_repositories"] = pendingNames(pending)
	}
	if p.failure != nil {
		d["not_taken"] = p.failure.Error()
		d["not_taken_kind"] = string(kindOf(p.failure))
	}
	return d
}

// refusals counts what was not taken, by kind.
func (p *policyHolder) refusals() map[refusalKind]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.refused)
}
