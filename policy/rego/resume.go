package rego

import (
	"context"
	"slices"

	"github.com/sallyport/sallyport/policy"
)

// Resume returns the set of the previous process: snapshot and findings are the results of
// its [Set.Snapshot] and [Set.Findings]. It checks the organization's policy. A
// repository's policy is checked and tested for the repository's first request, and denies
// if it does not pass. As [Options.Previous], the set saves the next revision the checks
// of unchanged policies. [Options.Kept] is the result of the previous set's [Set.Kept];
// what that set had rejected stays rejected. The error is [ErrFindings] if the findings
// cannot be used.
//
// A user who can write findings can delay the detection of a fault in a policy, and
// nothing else: a policy decides only after this process has checked it.
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

// Recall returns the policy of the previous process if only its files are known, as an
// [Options.Fallback]: each repository's policy is checked and tested before it decides.
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

// recallKept adds the rules of earlier revisions that were in force in the previous
// process. Rules that cannot be read are left out.
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

// errNotRecalled is the failure of a repository that the previous process rejected.
var errNotRecalled = Errors{{Message: "it was rejected before the restart"}}
