package approval

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/identity"
)

// finding is what was found of an activation.
type finding struct {
	outcome Outcome
	cause   string // why it is not approved; empty where it is

	pull      *identity.PullRequest // of the activated commit; nil: none
	authors   []identity.Account    // who wrote it: the pull request's author and those of its commits
	unlinked  int                   // commits of it whose author's address belongs to no account
	approvals []approval
	others    []int64 // pull requests that merged the other commits that came with it
}

// approval is one that stands.
type approval struct {
	identity.Review
	author bool // of an account that wrote a part of it, or of an unknown account
}

// evaluation asks about one activation.
type evaluation struct {
	api    API
	branch string
	pulls  map[int64]*finding // by id; nil: it did not merge into the branch
	merged map[int64]bool     // that merged a commit which came with the activation
	needs  func(check string) bool
}

// evaluate queries every commit of an activation, and returns the worst outcome: one
// commit without an approval is enough. An error is not an outcome.
func (c *Config) evaluate(ctx context.Context, a Activation) (*finding, error) {
	if a.More || len(a.Commits) > maxCommits {
		return &finding{outcome: Unknown, cause: fmt.Sprintf("it brought more than %d commits, which are too many to ask about", maxCommits)}, nil
	}
	e := evaluation{api: c.API, branch: c.Branch, pulls: map[int64]*finding{}, merged: map[int64]bool{}, needs: c.needs}
	whole, err := e.commit(ctx, a.Commit)
	if err != nil {
		return nil, err
	}
	for _, commit := range a.Commits {
		if commit == a.Commit || !e.needs("what came with it") {
			continue
		}
		one, err := e.commit(ctx, commit)
		if err != nil {
			return nil, err
		}
		if one.pull != nil && (whole.pull == nil || one.pull.ID != whole.pull.ID) && !slices.Contains(whole.others, one.pull.ID) {
			whole.others = append(whole.others, one.pull.ID)
		}
		if slices.Index(Outcomes, one.outcome) > slices.Index(Outcomes, whole.outcome) {
			whole.outcome = one.outcome
			whole.cause = fmt.Sprintf("commit %.12s, which came with it: %s", commit, one.cause)
		}
	}
	return whole, nil
}

// needs reports whether a check is made: all are, but for one that a test leaves out.
func (c *Config) needs(check string) bool { return c.without != check }

// commit finds the pull request that merged a commit.
func (e *evaluation) commit(ctx context.Context, commit string) (*finding, error) {
	ids, err := e.api.OfCommit(ctx, commit)
	if err != nil {
		return nil, err
	}
	elsewhere := ""
	for _, id := range ids {
		p, err := e.api.PullRequest(ctx, id)
		if errors.Is(err, identity.ErrAbsent) {
			continue
		}
		if err != nil {
			return nil, err
		}
		switch {
		case !p.Merged && e.needs("merged"):
			continue
		case e.branch != "" && p.Destination != e.branch && e.needs("branch"):
			elsewhere = fmt.Sprintf("; pull request %d holds it and was merged into another branch", id)
			continue
		case !(hash(p.MergeCommit).of(commit) || hash(p.Source).of(commit) || e.merged[id]) && e.needs("commit"):
			// It is somewhere inside a pull request: what put it on the branch is
			// something else, and was not approved by this.
			elsewhere = fmt.Sprintf("; pull request %d holds it and did not merge it as this commit", id)
			continue
		}
		e.merged[id] = true
		return e.pull(ctx, p)
	}
	return &finding{outcome: NoPullRequest, cause: "no pull request merged it" + elsewhere}, nil
}

type hash string

// of reports whether the hash, which may be the beginning of one, is a commit's.
func (h hash) of(commit string) bool { return h != "" && strings.HasPrefix(commit, string(h)) }

// pull evaluates one pull request.
func (e *evaluation) pull(ctx context.Context, p identity.PullRequest) (*finding, error) {
	if known := e.pulls[p.ID]; known != nil {
		again := *known
		return &again, nil
	}
	commits, err := e.api.Commits(ctx, p.ID)
	if err != nil {
		return nil, err
	}
	f := &finding{pull: &p}
	f.add(p.Author)
	for _, c := range commits {
		if c.Author.UUID == "" {
			f.unlinked++
		}
		if e.needs("authors of commits") {
			f.add(c.Author)
		}
	}
	f.judge(e.needs)
	e.pulls[p.ID] = f
	again := *f
	return &again, nil
}

// add adds an author; only UUIDs distinguish accounts.
func (f *finding) add(a identity.Account) {
	if a.UUID != "" && !f.wrote(a.UUID) {
		f.authors = append(f.authors, a)
	}
}

func (f *finding) wrote(uuid string) bool {
	return slices.ContainsFunc(f.authors, func(a identity.Account) bool { return a.UUID == uuid })
}

// judge sets the outcome of the approvals. An account without a UUID may be the author.
func (f *finding) judge(needs func(check string) bool) {
	independent := false
	for _, r := range f.pull.Reviews {
		if (!r.Approved || r.ChangesRequested) && needs("standing") {
			continue
		}
		unnamed, author := r.Account.UUID == "" && needs("named"), f.wrote(r.Account.UUID)
		if !needs("UUID") {
			author = r.Account.Name == f.pull.Author.Name
		}
		one := approval{r, unnamed || author}
		f.approvals = append(f.approvals, one)
		independent = independent || !one.author
	}
	number := fmt.Sprintf("pull request %d ", f.pull.ID)
	switch {
	case f.pull.Author.UUID == "" && needs("author"):
		f.outcome, f.cause = Unknown, number+"has no author that Bitbucket knows: so whether another account approved it is unknown"
	case independent:
		f.outcome = Approved
	case len(f.approvals) > 0:
		f.outcome, f.cause = SelfApproved, number+"was approved by its authors only"
	default:
		f.outcome, f.cause = NotApproved, number+"was merged without an approval"
	}
}
