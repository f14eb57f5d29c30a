package audit

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Report ends the verification.
func (v *Verification) Report() *Report {
	r := &Report{
		Leaves: v.tree.Size(), Checkpoints: v.checkpoints, Unsealed: v.unsealed, Oldest: v.oldest,
		First: v.first, Last: v.last, Covered: v.covered, Keys: v.keys.signers(), Uses: v.keys.uses,
	}
	v.finishWriters(r)
	if damage, detail := v.keys.finish(); damage != "" {
		v.findings.add(Finding{Damage: damage, First: -1, Last: -1, Detail: detail})
	}
	if v.tree.Size() > v.covered.Size && v.broken < 0 {
		v.findings.add(Finding{Damage: DamageLeaf, First: v.covered.Size, Last: v.tree.Size() - 1, Detail: "no checkpoint covers these leaves"})
	}
	v.finishAnchors(r)
	v.finishExpiry(r)
	v.finishGaps(r)
	r.Lateness = v.lateness.Report()
	r.Cadence = v.cadence.Report()
	r.Vouched = v.keys.vouched()
	r.Counts = maps.Clone(v.findings.counts)
	r.Findings = v.findings.list
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Compare(uint64(a.First), uint64(b.First)) // what has no place comes last
	})
	r.Findings = r.Findings[:min(len(r.Findings), maxFindings)]
	return r
}

// finishExpiry distinguishes missing events from those that retention removed.
func (v *Verification) finishExpiry(r *Report) {
	missing, invalid := v.expiry.settle()
	// The places of these come before others that are noted already, and may be
	// the first.
	var late findings
	for _, l := range invalid {
		late.add(Finding{Damage: DamageRetention, First: l.Index, Last: l.Index, Writer: DatabaseWriter, Sequence: l.Sequence, Detail: l.refused})
	}
	for i := range v.expiry.retentions {
		r := &v.expiry.retentions[i]
		if left := v.expiry.left(r); r.refused == "" && left < r.stayed {
			late.add(Finding{Damage: DamageMissing, First: r.leaves[0].first, Last: r.leaves[0].first,
				Detail: fmt.Sprintf("of the %d events that retention left of the month %s, among the leaves from here on, %d are there", r.stayed, r.Month, left)})
		}
	}
	for _, g := range missing {
		late.add(Finding{Damage: DamageMissing, First: g.first, Last: g.last, Writer: g.writer, Sequence: g.sequence, Detail: notThere})
	}
	v.findings.join(late)
	for _, one := range v.expiry.retentions {
		if one.refused == "" {
			r.Expired += one.Found
			r.Retentions = append(r.Retentions, one)
		}
	}
}

// finishGaps separates valid declarations from invalid ones.
func (v *Verification) finishGaps(r *Report) {
	var late findings
	for _, d := range v.gaps.declared {
		if d.invalid != "" {
			late.add(Finding{Damage: DamageGap, First: d.Index, Last: d.Index, Writer: d.Writer, Sequence: d.First, Detail: d.invalid})
			continue
		}
		r.Gaps = append(r.Gaps, d)
	}
	v.findings.join(late)
	r.Missing, r.Lost, r.MoreLost = v.gaps.skipped, append(v.gaps.lost, v.gaps.reported...), v.gaps.moreLost
}
