package bench

import (
	"cmp"
	"fmt"
)

// minSpread is the least difference that [Report.Compare] reports: a ratio of 1.00 and one
// of 1.05 are the same, even if the rounds of both runs agree.
const minSpread = 0.05

// Compare returns a line for each ratio that is worse than in an earlier report by more
// than the spread of either: half the range of the rounds, and at least 5 %. It compares
// ratios to the baseline only, since the machine may be another one, and omits the 99th
// percentile, which varies too much in short runs.
func (r *Report) Compare(earlier *Report) (worse []string) {
	for _, now := range r.Cells {
		before := earlier.Cell(now.Load, now.Target)
		if before == nil || now.Target == r.Baseline {
			continue
		}
		if now.Failure != "" && before.Failure == "" {
			worse = append(worse, fmt.Sprintf("%s, load %s: failed: %s", now.Target, now.Load, now.Failure))
		}
		for _, q := range quantities {
			f, old := *q.figure(now), *q.figure(before)
			if f == nil || old == nil || f.Ratio == nil || old.Ratio == nil || q.name == "99th percentile" {
				continue
			}
			if by := f.Ratio.worseThan(*old.Ratio, q.name == "rate"); by > 0 {
				worse = append(worse, fmt.Sprintf("%s, load %s: the %s is %.2f × that of %s, and was %.2f × at %s: %.0f %% worse",
					now.Target, now.Load, q.name, f.Ratio.Median, r.Baseline, old.Ratio.Median, cmp.Or(earlier.Commit, "the earlier run"), 100*by))
			}
		}
	}
	return worse
}

// worseThan is by which part a ratio is worse than an earlier one; 0: not by more than the
// spread.
func (r Ratio) worseThan(earlier Ratio, higherIsBetter bool) float64 {
	if earlier.Median == 0 {
		return 0
	}
	by := r.Median/earlier.Median - 1
	if higherIsBetter {
		by = -by
	}
	if by <= max(minSpread, r.spread(), earlier.spread()) {
		return 0
	}
	return by
}

// spread is half the range of the rounds, as a part of the median.
func (r Ratio) spread() float64 {
	if r.Median == 0 {
		return 0
	}
	return (r.High - r.Low) / 2 / r.Median
}
