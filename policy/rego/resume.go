package rego

import (
	"context"
	"slices"

	"github.com/sallyport/sallyport/policy"
)

// Resume returns the set that a process before this one had: snapshot and findings
// are what its [Set.Snapshot] and [Set.Findings] returned. It checks the
// organization's policy and none of the repositories': each of those is checked
// and tested when it is first asked about, and denies if it does not pass. As
// [Options.Previous] it spares the loading of the next revision what is the same.
// [Options.Kept] is what its [Set.Kept] returned; what it had rejected stays rejected.
// The error is [ErrFindings] where the findings cannot be used.
//
// Whoever can write findings can put off that a fault in a policy is noticed, and
// can do no more: nothing is decided by a policy that this process has not checked.
func Resume(ctx context.Context, snapshot *policy.Snapshot, findings []byte, options Options) (*Set, error) {
	kept := options.Kept
	options.Recorded, options.SkipTests, options.Prechecked = true, true, false
	options.Previous, options.Fallback, options.Kept = nil, nil, nil
	l := newLoader(snapshot, options)
	l.findings = findings
	if l.findings == nil {
		l.findings = []byte{}
	}
	set, err := l.load(ctx)
	if err != nil {
		return nil, err
	}
	if err := set.recallKept(ctx, kept); err != nil {
		return nil, err
	}
	return set, nil
}

// Recall returns the policy that a process before this one had, of which nothing is
// known but its files, as an [Options.Fallback]: each repository's policy is checked and
// tested before it decides.
func Recall(ctx context.Context, snapshot *policy.Snapshot, options Options) (*Set, error) {
	set, err := recall(ctx, snapshot, options)
	if err != nil {
		return nil, err
	}
	if err := set.recallKept(ctx, options.Kept); err != nil {
		return nil, err
	}
	return set, nil
}

func recall(ctx context.Context, snapshot *policy.Snapshot, options Options) (*Set, error) {
	options.Recorded, options.SkipTests, options.Prechecked = true, true, false
	options.Previous, options.Fallback, options.Kept = nil, nil, nil
	l := newLoader(snapshot, options)
	l.unproven = true
	return l.load(ctx)
}

// recallKept adds the rules of earlier revisions that a process before this one had
// kept. Rules that cannot be read are as if they had not been kept.
func (s *Set) recallKept(ctx context.Context, kept []policy.KeptRepository) error {
	for _, k := range kept {
		pending := s.pending[k.Repository]
		rejected := (s.rejected[k.Repository] != nil || s.loader.unproven) && s.loader.options.OnFailure == KeepPrevious
		if s.units[k.Repository] == nil || !rejected && pending == nil {
			continue
		}
		snapshot, err := policy.NewSnapshot(slices.Concat(k.Files, k.Shared), k.Revision.Commit)
		if err != nil {
			continue
		}
		mini, err := recall(ctx, snapshot, s.loader.options)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil || mini.units[k.Repository] == nil || mini.units[k.Repository].failure != nil {
			continue
		}
		mini.origin = k.Revision
		s.kept[k.Repository] = mini
		if pending != nil {
			pending.Kept = k.Revision
			continue
		}
		r := s.rejected[k.Repository]
		if r == nil {
			r = &Rejection{Repository: k.Repository, Failure: errNotRecalled}
			s.rejected[k.Repository] = r
		}
		r.Kept = k.Revision
	}
	return nil
}

// errNotRecalled is of a repository whose failure an earlier process has seen.
var errNotRecalled = Errors{{Message: "it was rejected before the restart"}}
