package audit

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Report is the result of a verification.
type Report struct {
	Leaves      int64
	Checkpoints int64
	Unsealed    int64     // events that no checkpoint covers: nothing is proven of them
	Oldest      time.Time // of these
	Writers     int       // that have sealed events
	Unended     int       // of these, those without an end
	// SignedWriters counts those of which an event shows that their process has a key of
	// the log (see [Signer.SignWriter]), and UnsignedWriters the others, without
	// [DatabaseWriter]. Unsigned lists at most a hundred, those with the most events first.
	SignedWriters   int
	UnsignedWriters int
	Unsigned        []UnsignedWriter
	First, Last     time.Time  // of the sealed events, by their records
	Covered         Checkpoint // the latest checkpoint of the log that holds
	Keys            []Key      // that signed checkpoints of the log, in their order
	// Uses has the keys that signed or may sign next, in their order, each with the
	// sizes that it signed and whether it is trusted.
	Uses []KeyUse
	// Anchored is the largest checkpoint from outside that holds. Size 0: none,
	// so that a log which was rewritten and signed again as a whole, or cut off
	// at a checkpoint, is not told from the true one.
	Anchored Checkpoint
	// Vouched: a key from outside, or a successor of one, signed a valid checkpoint. It vouches for what its checkpoints cover.
	Vouched bool
	// Warnings are about input from outside that could not be used, and not about the
	// log.
	Warnings []string
	// Expired counts the sealed events that are not there and that retention
	// accounts for; Retentions are its events, those that account for anything.
	Expired    int64
	Retentions []Retention
	// Missing counts the numbers that were never sealed and that a declaration
	// accounts for; Gaps are the declarations, those that account for anything.
	Missing int64
	Gaps    []GapDeclaration
	// Lost is what writers report as lost after a failover or a restore: at
	// most a thousand reports of writers that have a key of the log, then as many of
	// others. MoreLost counts what is left out.
	Lost     []LostRange
	MoreLost int64
	// Lateness lists events that were sealed long after their own time. It is not
	// damage: events in a journal during an outage are late as well.
	Lateness Lateness
	// Cadence lists long times without a checkpoint. It is not damage: no instance
	// sealed.
	Cadence Cadence
	// Findings has the first hundred, the first damaged place of the tree first.
	Findings []Finding
	Counts   map[Damage]int64
}

// Sound reports whether nothing was found.
func (r *Report) Sound() bool { return len(r.Counts) == 0 }

// Add adds what was found outside of the tree.
func (r *Report) Add(found ...Finding) {
	var all findings
	for _, f := range found {
		all.add(f)
	}
	for damage, n := range all.counts {
		if r.Counts == nil {
			r.Counts = make(map[Damage]int64)
		}
		r.Counts[damage] += n
	}
	r.Findings = append(r.Findings, all.list...)
	r.Findings = r.Findings[:min(len(r.Findings), maxFindings)]
}

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

// finishExpiry tells what is missing from what retention took.
func (v *Verification) finishExpiry(r *Report) {
	missing, lies := v.expiry.settle()
	// The places of these come before others that are noted already, and may be
	// the first.
	var late findings
	for _, l := range lies {
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
