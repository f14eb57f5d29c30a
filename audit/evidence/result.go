package evidence

import (
	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
)

// resultOf keeps the result of a verification.
func resultOf(r *audit.Report, trusted []audit.Key) pack.Result {
	res := pack.Result{
		Sound: r.Sound(), Leaves: r.Leaves, Writers: r.Writers, Unended: r.Unended,
		First: r.First, Last: r.Last, Keys: r.Keys, Trusted: trusted, Vouched: r.Vouched, Counts: r.Counts,
	}
	for _, u := range r.Uses {
		if u.Trusted && u.First > 0 {
			res.Vouching = append(res.Vouching, pack.Vouching{Key: u.Key, From: u.First})
		}
	}
	if r.Anchored.Size > 0 {
		res.Anchored = &pack.Anchor{Size: r.Anchored.Size, Root: r.Anchored.Root, Time: r.Anchored.Time}
	}
	if len(r.Counts) == 0 {
		res.Counts = nil
	}
	for _, f := range r.Findings {
		res.Findings = append(res.Findings, f.String())
	}
	return res
}
