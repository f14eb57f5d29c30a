package bench

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Run measures every load on every target, in turn, and returns the report without date,
// commit and machine. A load that fails on a target is reported in its cell, and is not
// repeated.
func Run(o Options) *Report {
	r := &Report{Baseline: o.Baseline, Rounds: o.Rounds, Seconds: o.Time.Seconds(), Versions: map[string]string{}}
	for _, t := range o.Targets {
		if t.Version != "" {
			r.Versions[t.Name] = t.Version
		}
	}
	baseline := map[string][]measurement{} // rounds of the baseline target, by load
	for _, l := range o.Loads {
		began := time.Now()
		rounds, failures := o.runLoad(l)
		baseline[l.Name] = rounds[o.Baseline]
		base := l.Name
		if l.Baseline != "" {
			base = l.Baseline
		}
		for _, t := range o.Targets {
			switch {
			case failures[t.Name] != nil:
				r.Cells = append(r.Cells, &Cell{Load: l.Name, Target: t.Name, Failure: failures[t.Name].Error()})
			case len(rounds[t.Name]) > 0:
				r.Cells = append(r.Cells, newCell(l.Name, t.Name, rounds[t.Name], baseline[base]))
			}
		}
		if o.Progress != nil {
			o.Progress(o.summary(r, l, time.Since(began)))
		}
	}
	return r
}

// runLoad measures a load on its targets, which begin in another order in each round.
func (o *Options) runLoad(l *Load) (rounds map[string][]measurement, failures map[string]error) {
	rounds, failures = map[string][]measurement{}, map[string]error{}
	targets := o.targetsOf(l)
	count := o.Rounds + 1 // the first one only warms up
	if l.tunnels > 0 {
		count = 1 // later ones would measure what the memory of the first has become
	}
	for n := range count {
		for i := range targets {
			t := targets[(i+n)%len(targets)]
			if failures[t.Name] != nil {
				continue
			}
			during := o.Time
			if n == 0 {
				during /= 4
			}
			m, err := o.measure(l, t, during)
			switch {
			case err != nil:
				failures[t.Name] = err
			case n > 0 || count == 1:
				rounds[t.Name] = append(rounds[t.Name], m)
			}
		}
	}
	return rounds, failures
}

// targetsOf are the targets that a load is measured on.
func (o *Options) targetsOf(l *Load) (list []*Target) {
	for _, t := range o.Targets {
		switch {
		case l.WithoutDirect && t.Proxy == "", l.Refused && len(t.Credentials) == 0:
		case len(t.Loads) == 0 || slices.Contains(t.Loads, l.Name):
			list = append(list, t)
		}
	}
	return list
}

// summary is a line about a load.
func (o *Options) summary(r *Report, l *Load, took time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%.0f s):", l.Name, took.Seconds())
	for _, t := range o.Targets {
		c := r.Cell(l.Name, t.Name)
		if c == nil {
			continue
		}
		fmt.Fprintf(&b, "\n    %-24s", t.Name)
		if c.Failure != "" {
			b.WriteString(" failed: " + c.Failure)
			continue
		}
		for _, q := range quantities {
			if f := *q.figure(c); f != nil {
				fmt.Fprintf(&b, "  %s %.4g", q.name, f.Median)
				if f.Ratio != nil && t.Name != o.Baseline {
					fmt.Fprintf(&b, " (%.2f ×)", f.Ratio.Median)
				}
			}
		}
	}
	return b.String()
}
