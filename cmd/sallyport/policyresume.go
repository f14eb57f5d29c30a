package main

import (
	"context"

	"github.com/sallyport/sallyport/policy/rego"
	"github.com/sallyport/sallyport/policy/source"
)

// resume is what decided last, as far as it spares this start the checking of
// what has not changed since; nil where it does not. A repository's policy that is
// not checked now is checked when the repository is first asked about.
func (p *policyHolder) resume(ctx context.Context, kept *source.KeptPolicy) *rego.Set {
	if kept == nil || kept.Findings == nil {
		return nil
	}
	set, err := rego.Resume(ctx, kept.Snapshot, kept.Findings, p.options)
	if err != nil {
		p.log.Info("all of the policy is checked, what was found out of it before cannot be used", "error", err)
		return nil
	}
	return set
}

// loadKept is the last good revision from disk as a set that can decide.
func (p *policyHolder) loadKept(ctx context.Context, kept *source.KeptPolicy, resumed *rego.Set) (*rego.Set, error) {
	if resumed != nil {
		return resumed, nil
	}
	options := p.options
	options.Recorded, options.SkipTests = true, true
	return rego.Load(ctx, kept.Snapshot, options)
}
