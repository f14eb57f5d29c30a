package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/identity"
)

// cursor is how far a list was read.
type cursor struct {
	next    string
	began   time.Time // when its first page was asked for
	inOrder bool      // so far the newest start came first
	oldest  time.Time // the start that came last
	pages   int
}

// mark is how far this instance has read a list. What the database has of it is not
// enough: every login that may record can add rows of a scan that was never made.
type mark struct {
	at      time.Time // when the latest scan began that was complete
	inOrder bool      // of the latest that read the whole list
	wholeAt time.Time // when that began; zero: never
}

// scan reads a repository's list of runs and classifies each. failed is Bitbucket's
// error; err the database's.
func (v *workspaceScan) scan(ctx context.Context, n identity.KnownName) (failed, err error) {
	api := v.workspace.API
	l := identity.RepositoryScan{WorkspaceUUID: v.workspace.UUID, RepositoryUUID: n.RepositoryUUID, Repository: n.FullName, Began: v.config.Now()}
	requests := api.Requests()
	known, err := v.known(ctx, n.RepositoryUUID)
	if err != nil {
		return nil, err
	}
	reported := map[string]bool{}
	at, whole, failed, err := v.read(ctx, n.RepositoryUUID, v.horizon(v.marks[n.RepositoryUUID], known, l.Began), func(page identity.DeploymentPage) error {
		l.Runs += len(page.Runs)
		return v.savePage(ctx, n.RepositoryUUID, page, known, reported)
	})
	if err != nil {
		return nil, err
	}
	l.InOrder, l.Whole, l.Until = at.inOrder, whole, at.began
	l.Outcome = outcomeOf(failed, at)
	unread := ""
	if failed != nil {
		l.Detail = short(failed.Error())
		unread = "its repository could not be read: " + string(l.Outcome)
	}
	if !l.Outcome.Conclusive() {
		l.Until = time.Time{}
	}
	findings, err := v.reclassify(ctx, n.RepositoryUUID, reported, unread)
	if err != nil {
		return nil, err
	}
	l.Requests = int(api.Requests() - requests)
	if err := v.save(ctx, findings, l); err != nil {
		return nil, err
	}
	v.moveMark(&l)
	if l.Outcome.Conclusive() || l.Outcome == identity.ScanForbidden {
		return nil, nil // a complete response
	}
	return failed, nil
}

// moveMark notes how far a list was read, if the scan was complete.
func (v *workspaceScan) moveMark(l *identity.RepositoryScan) {
	if !l.Outcome.Conclusive() {
		return
	}
	m := v.marks[l.RepositoryUUID]
	if m.at = l.Until; l.Whole {
		m.inOrder, m.wholeAt = l.InOrder, l.Began
	}
	v.marks[l.RepositoryUUID] = m
}

// savePage classifies the runs of a page and saves the findings. It adds the runs to
// reported, and classifies none twice.
func (v *workspaceScan) savePage(ctx context.Context, repository string, page identity.DeploymentPage, known map[string]identity.DeploymentFinding, reported map[string]bool) error {
	var runs []identity.DeploymentRun
	for _, run := range page.Runs {
		if run.Began().Before(v.since) && known[run.UUID].UUID == "" {
			continue // before the period
		}
		if !reported[run.UUID] {
			runs = append(runs, run)
		}
		reported[run.UUID] = true
	}
	findings, err := v.classify(ctx, repository, runs, known)
	if err != nil {
		return err
	}
	return v.save(ctx, findings)
}

// outcomeOf is the outcome of a walk that ended at a cursor with Bitbucket's error.
func outcomeOf(failed error, at cursor) identity.ScanOutcome {
	switch {
	case failed == nil:
		return identity.ScanComplete
	case errors.Is(failed, identity.ErrAbsent) && at.pages == 0:
		return identity.ScanAbsent
	case errors.Is(failed, identity.ErrForbidden):
		return identity.ScanForbidden
	}
	return identity.ScanPartial
}

// known returns what was found of a repository's runs before.
func (v *workspaceScan) known(ctx context.Context, repository string) (map[string]identity.DeploymentFinding, error) {
	list, err := v.session.Findings(ctx, repository, v.since)
	if err != nil {
		return nil, err
	}
	known := make(map[string]identity.DeploymentFinding, len(list))
	for _, f := range list {
		known[f.UUID] = f
	}
	return known, nil
}

// horizon is the time before which nothing can be new, so that a list in order
// need not be read further; the zero time where it has to be read to its end. A
// run that waits or continues holds it back.
func (v *workspaceScan) horizon(m mark, known map[string]identity.DeploymentFinding, now time.Time) time.Time {
	if m.at.IsZero() || !m.inOrder || now.Sub(m.wholeAt) >= fullScanInterval {
		return time.Time{}
	}
	horizon := m.at.Add(-overlap)
	for _, f := range known {
		if f.Class == identity.ClassPending && f.Began().Before(horizon) {
			horizon = f.Began()
		}
	}
	return horizon
}

// read walks a repository's list, and continues where an earlier walk failed. at is the
// last position; whole, whether that is the end; failed, why it is before the horizon.
func (v *workspaceScan) read(ctx context.Context, repository string, horizon time.Time, each func(identity.DeploymentPage) error) (at cursor, whole bool, failed, err error) {
	fresh := cursor{began: v.config.Now(), inOrder: true}
	at, resumed := v.cursors[repository]
	if !resumed {
		at = fresh
	}
	delete(v.cursors, repository)
	unread := 0
	for {
		page, err := v.workspace.API.Page(ctx, repository, at.next)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return at, false, err, ctx.Err()
		case resumed && (errors.Is(err, identity.ErrCursor) || errors.Is(err, identity.ErrAbsent)):
			at, resumed = fresh, false // from the beginning
			continue
		default:
			v.keepCursor(repository, at, err)
			return at, false, err, nil
		}
		if err := each(page); err != nil {
			return at, false, nil, err
		}
		unread += page.Unread
		if whole, end := at.advance(page, horizon); end {
			return at, whole, unreadable(unread), nil
		}
		if at.pages >= maxPages {
			return at, false, fmt.Errorf("its list has more than %d pages", maxPages), nil
		}
		at.next = page.Next
	}
}

// keepCursor keeps the position of a walk that failed, for the next one.
func (v *workspaceScan) keepCursor(repository string, at cursor, err error) {
	if at.next != "" && !errors.Is(err, identity.ErrCursor) {
		v.cursors[repository] = at
	}
}

// advance adds a page to the walk. end reports whether the walk ends here: at the end
// of the list (whole), or at the horizon of a list in order.
func (c *cursor) advance(page identity.DeploymentPage, horizon time.Time) (whole, end bool) {
	c.pages++
	old := c.pass(page.Runs, horizon)
	if page.Next == "" {
		return true, true
	}
	return false, !horizon.IsZero() && c.inOrder && old
}

func unreadable(n int) error {
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%d deployments could not be read", n)
}

// pass updates the order, and reports whether all runs of a page that began are older
// than the horizon. A run that has not begun has no place in the order.
func (c *cursor) pass(runs []identity.DeploymentRun, horizon time.Time) (old bool) {
	old = true
	begun := 0
	for _, run := range runs {
		if run.Started.IsZero() {
			continue
		}
		begun++
		if !c.oldest.IsZero() && run.Started.After(c.oldest) {
			c.inOrder = false
		}
		c.oldest = run.Started
		old = old && run.Latest().Before(horizon)
	}
	return old && begun > 0
}

// reclassify classifies the runs that are not final and were not reported this time: an
// event of theirs may have arrived late. It also classifies those that were found since
// this instance's latest scan, which this instance did not find. unread is why Bitbucket
// did not report them; empty if it did report.
func (v *workspaceScan) reclassify(ctx context.Context, repository string, reported map[string]bool, unread string) ([]identity.DeploymentFinding, error) {
	known, err := v.known(ctx, repository)
	if err != nil {
		return nil, err
	}
	var runs []identity.DeploymentRun
	for _, f := range known {
		if !reported[f.UUID] && (!f.Class.Final() || f.Found.After(v.marks[repository].at)) {
			runs = append(runs, f.DeploymentRun)
		}
	}
	slices.SortFunc(runs, func(a, b identity.DeploymentRun) int { return strings.Compare(a.UUID, b.UUID) })
	var all []identity.DeploymentFinding
	for chunk := range slices.Chunk(runs, 100) {
		var findings []identity.DeploymentFinding
		if unread == "" {
			findings, err = v.classify(ctx, repository, chunk, known)
		} else {
			findings, err = v.classifyUnknown(ctx, repository, chunk, known, unread)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, findings...)
	}
	return all, nil
}
