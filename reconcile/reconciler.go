package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/pause"
	"github.com/sallyport/sallyport/internal/uuid"
)

// Reconciler reconciles. Run is called once; Status by anybody.
type Reconciler struct {
	config   Config
	cursors  map[string]cursor // of lists that failed on the way, by repository
	recorded map[string]bool   // runs whose event was handed to the log
	due      map[string]time.Time
	own      map[string]time.Time // when this instance reconciled a workspace, or first left that to another
	marks    map[string]mark      // by repository

	mu     sync.Mutex
	latest map[string]outcome // by workspace
	busy   *identity.ReconciliationBusy
	err    error // of what comes before any workspace
}

// outcome is the result of the latest reconciliation of a workspace.
type outcome struct {
	at           time.Time
	success      time.Time // when the latest whole one began; zero: none is known
	duration     time.Duration
	err          error
	deployments  map[identity.DeploymentClass]int
	repositories map[identity.ScanOutcome]int
	failed       bool // the latest one of this instance
}

// Status returns the state without asking anybody.
func (r *Reconciler) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Status{Busy: r.busy, Err: r.err, Deployments: map[identity.DeploymentClass]int{}, Repositories: map[identity.ScanOutcome]int{}}
	for i, w := range r.config.Workspaces {
		s.Requests += w.API.Requests()
		o := r.latest[w.UUID]
		if i == 0 || o.success.Before(s.LastSuccess) {
			s.LastSuccess = o.success
		}
		if o.at.After(s.At) {
			s.At = o.at
		}
		s.Duration += o.duration
		s.Err = errors.Join(s.Err, o.err)
		for class, n := range o.deployments {
			s.Deployments[class] += n
		}
		for what, n := range o.repositories {
			s.Repositories[what] += n
		}
	}
	return s
}

// Run reconciles each workspace at once and then as often as configured, counting
// from when any instance last did, until ctx ends.
func (r *Reconciler) Run(ctx context.Context) {
	r.due = map[string]time.Time{}
	for ctx.Err() == nil {
		err := r.round(ctx)
		if ctx.Err() != nil {
			return
		}
		r.mu.Lock()
		again := r.err != nil && err != nil && r.err.Error() == err.Error()
		r.err = err
		r.mu.Unlock()
		if err != nil && !again {
			r.config.Log.WarnContext(ctx, "deployments are not compared with the log at the moment", "error", err)
		}
		wait := min(minRetry, r.config.Interval)
		if err == nil && len(r.due) == len(r.config.Workspaces) {
			wait = max(r.next().Sub(r.config.Now()), time.Millisecond)
		}
		pause.For(ctx, wait)
	}
}

// next is when the first workspace is due again.
func (r *Reconciler) next() time.Time {
	return slices.MinFunc(slices.Collect(maps.Values(r.due)), time.Time.Compare)
}

// round reconciles what is due, unless another instance does.
func (r *Reconciler) round(ctx context.Context) error {
	if err := r.config.Ready(); err != nil {
		return err
	}
	s, err := r.config.Open(ctx)
	busy, isBusy := errors.AsType[*identity.ReconciliationBusy](err)
	r.mu.Lock()
	r.busy = busy
	r.mu.Unlock()
	if err != nil {
		clear(r.due) // once the lock is free, see what is due
		if isBusy {
			return nil
		}
		return err
	}
	defer s.Close()
	if err := r.recordLeft(ctx, s); err != nil {
		return err
	}
	for _, w := range r.config.Workspaces {
		now := r.config.Now()
		id, err := s.Latest(ctx, w.UUID)
		if err != nil {
			return err
		}
		if at := timeOf(id); r.leavesTo(w, at, now) {
			r.due[w.UUID] = earlier(at.Add(r.config.Interval), r.own[w.UUID].Add(ownEvery*r.config.Interval))
			if err := r.resume(ctx, s, w, at); err != nil {
				return err
			}
			continue
		}
		if now.Before(r.due[w.UUID]) { // one without repositories notes nothing
			continue
		}
		if err := r.reconcile(ctx, s, w); err != nil {
			return err
		}
		r.due[w.UUID] = now.Add(r.config.Interval)
	}
	return nil
}

// leavesTo reports whether a reconciliation of another instance at a time stands for
// one of this instance. One in the future was never made.
func (r *Reconciler) leavesTo(w Workspace, at, now time.Time) bool {
	if at.IsZero() || at.After(now.Add(maxSkew)) || !now.Before(at.Add(r.config.Interval)) {
		return false
	}
	if r.own[w.UUID].IsZero() {
		r.own[w.UUID] = now
	}
	return now.Before(r.own[w.UUID].Add(ownEvery * r.config.Interval))
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// resume takes over what another instance, or the process before, has found.
func (r *Reconciler) resume(ctx context.Context, s Session, w Workspace, at time.Time) error {
	r.mu.Lock()
	ours := r.latest[w.UUID]
	r.mu.Unlock()
	if at.Sub(ours.at) < time.Second { // an id has milliseconds
		return nil
	}
	deployments, err := s.Counts(ctx, w.UUID, at.Add(-r.config.Lookback))
	if err != nil {
		return err
	}
	success, err := s.LastSuccess(ctx, w.UUID, r.config.Now())
	if err != nil {
		return err
	}
	if ours.failed { // reports in the database do not hide that
		success = ours.success
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.latest[w.UUID] = outcome{at: at, success: success, deployments: deployments, failed: ours.failed}
	return nil
}

// reconcile compares one workspace with the log. Its error is the database's or the
// log's; Bitbucket's errors are part of the findings.
func (r *Reconciler) reconcile(ctx context.Context, s Session, w Workspace) error {
	began := r.config.Now()
	since := began.Add(-r.config.Lookback)
	if first, err := s.Began(ctx); err != nil {
		return err
	} else if first.After(since) {
		since = first // what was before the log cannot be in it
	}
	r.own[w.UUID] = began
	r.mu.Lock()
	success := r.latest[w.UUID].success
	r.mu.Unlock()
	if success.IsZero() {
		var err error
		if success, err = s.LastSuccess(ctx, w.UUID, began); err != nil {
			return err
		}
	}
	v := &workspaceScan{Reconciler: r, session: s, workspace: w, id: uuid.NewV7(began), since: since, began: began, until: began.Add(max(r.config.Interval, minRetry))}
	trouble, err := v.scanRepositories(ctx)
	o := outcome{at: began, success: success, err: trouble, repositories: v.outcomes}
	if err == nil {
		o.deployments, err = s.Counts(ctx, w.UUID, since)
	}
	if err == nil {
		err = r.recordRound(ctx, s, v, o, trouble)
	}
	o.duration = r.config.Now().Sub(began)
	if err != nil && ctx.Err() == nil {
		o.err = errors.Join(trouble, err)
	}
	if o.err == nil && err == nil {
		o.success = began
	} else {
		o.failed = true
	}
	r.mu.Lock()
	if o.deployments == nil {
		o.deployments = r.latest[w.UUID].deployments
	}
	r.latest[w.UUID] = o
	r.mu.Unlock()
	return err
}

// workspaceScan is one reconciliation of one workspace.
type workspaceScan struct {
	*Reconciler
	session   Session
	workspace Workspace
	id        string
	since     time.Time // when a run that counts began at the earliest
	began     time.Time
	until     time.Time // no repository is begun after that: the next round is due

	names    map[string]string // of the repositories
	outcomes map[identity.ScanOutcome]int
	scanned  []string // names of those that were checked
}

// scanRepositories checks each repository in turn. trouble is what kept it from
// being whole.
func (v *workspaceScan) scanRepositories(ctx context.Context) (trouble, err error) {
	v.outcomes, v.names = map[identity.ScanOutcome]int{}, map[string]string{}
	before, err := v.session.ScanStates(ctx, v.workspace.UUID)
	if err != nil {
		return nil, err
	}
	known := make(map[string]identity.ScanState, len(before))
	for _, l := range before {
		if l.At.After(v.began.Add(maxSkew)) {
			l.At = time.Time{}
		}
		known[l.RepositoryUUID] = l
		v.names[l.RepositoryUUID] = l.Repository
	}
	listed, trouble := v.workspace.API.Repositories(ctx)
	if trouble != nil {
		// The list is unknown, so no repository counts as gone.
		for _, l := range before {
			if l.Latest != identity.ScanGone {
				listed = append(listed, identity.KnownName{RepositoryUUID: l.RepositoryUUID, FullName: l.Repository})
			}
		}
		return trouble, v.saveSkipped(ctx, listed, trouble.Error())
	}
	environments, err := v.session.Environments(ctx, v.workspace.UUID)
	if err != nil {
		return nil, err
	}
	order := inOrder(listed, known, environments)
	failures := 0
	for i, n := range order {
		v.names[n.RepositoryUUID] = n.FullName
		switch {
		case ctx.Err() != nil:
			return ctx.Err(), ctx.Err()
		case failures >= maxFailures:
			return trouble, v.saveSkipped(ctx, order[i:], "the API failed for others")
		case i > 0 && v.config.Now().After(v.until):
			return errors.Join(trouble, fmt.Errorf("there was no time for %d repositories", len(order)-i)), v.saveSkipped(ctx, order[i:], "there was no time")
		}
		failed, err := v.scan(ctx, n)
		if err != nil {
			return nil, err
		}
		if failures++; failed == nil {
			failures = 0
			continue
		}
		trouble = errors.Join(trouble, fmt.Errorf("%s: %w", n.FullName, failed))
	}
	return trouble, v.saveUnlisted(ctx, listed, before)
}

// inOrder sorts repositories by who is to be checked first: who has waited
// longest, where one without environments waits a day longer than one with. So
// everybody gets a turn, however short the time is.
func inOrder(listed []identity.KnownName, known map[string]identity.ScanState, environments map[string]int) []identity.KnownName {
	turn := func(n identity.KnownName) time.Time {
		at := known[n.RepositoryUUID].At
		if environments[n.RepositoryUUID] == 0 {
			at = at.Add(24 * time.Hour)
		}
		return at
	}
	order := slices.Clone(listed)
	slices.SortStableFunc(order, func(a, b identity.KnownName) int { return turn(a).Compare(turn(b)) })
	return order
}

// saveSkipped notes repositories that were left out.
func (v *workspaceScan) saveSkipped(ctx context.Context, left []identity.KnownName, why string) error {
	scans := make([]identity.RepositoryScan, len(left))
	now := v.config.Now()
	for i, n := range left {
		v.names[n.RepositoryUUID] = n.FullName
		scans[i] = identity.RepositoryScan{WorkspaceUUID: v.workspace.UUID, RepositoryUUID: n.RepositoryUUID, Repository: n.FullName,
			Outcome: identity.ScanSkipped, Detail: short(why), Began: now}
	}
	return v.save(ctx, nil, scans...)
}

// saveUnlisted records, once, the repositories that the workspace no longer lists.
func (v *workspaceScan) saveUnlisted(ctx context.Context, listed []identity.KnownName, before []identity.ScanState) error {
	there := make(map[string]bool, len(listed))
	for _, n := range listed {
		there[n.RepositoryUUID] = true
	}
	for _, l := range before {
		if there[l.RepositoryUUID] || l.Latest == identity.ScanGone {
			continue
		}
		findings, err := v.reclassify(ctx, l.RepositoryUUID, nil, "the repository is gone, or in another workspace")
		if err != nil {
			return err
		}
		if err := v.save(ctx, findings, identity.RepositoryScan{WorkspaceUUID: v.workspace.UUID, RepositoryUUID: l.RepositoryUUID,
			Repository: l.Repository, Outcome: identity.ScanGone, Began: v.config.Now()}); err != nil {
			return err
		}
	}
	return nil
}

// save keeps findings and scans, and counts the scans.
func (v *workspaceScan) save(ctx context.Context, findings []identity.DeploymentFinding, scans ...identity.RepositoryScan) error {
	if len(findings)+len(scans) == 0 {
		return nil
	}
	if err := v.session.Save(ctx, v.id, findings, scans); err != nil {
		return err
	}
	for _, l := range scans {
		v.outcomes[l.Outcome]++
		if l.Outcome != identity.ScanSkipped && l.Outcome != identity.ScanGone {
			v.scanned = append(v.scanned, l.Repository)
		}
	}
	return nil
}
