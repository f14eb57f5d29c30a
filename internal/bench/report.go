package bench

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"time"
)

// Report is the result of a run. Its JSON is what a later run compares with.
type Report struct {
	Date     string            `json:"date"`
	Commit   string            `json:"commit"`
	Machine  string            `json:"machine"`
	Baseline string            `json:"baseline"`
	Rounds   int               `json:"rounds"`
	Seconds  float64           `json:"seconds"` // of one measurement
	Versions map[string]string `json:"versions"`
	Cells    []*Cell           `json:"cells"`
}

// Cell is one load on one target. Durations are in microseconds, per unit of the load.
type Cell struct {
	Load     string  `json:"load"`
	Target   string  `json:"target"`
	Rate     *Figure `json:"rate,omitempty"` // units a second
	Median   *Figure `json:"median_us,omitempty"`
	P99      *Figure `json:"p99_us,omitempty"`
	Proxy    *Figure `json:"proxy_cpu_us,omitempty"`
	Database *Figure `json:"database_cpu_us,omitempty"`
	Total    *Figure `json:"total_cpu_us,omitempty"`
	Memory   *Figure `json:"memory_bytes,omitempty"`
	Failure  string  `json:"failure,omitempty"` // why the target was not measured
}

// Figure is the median of the rounds, with the lowest and the highest value.
type Figure struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
	Ratio  *Ratio  `json:"ratio,omitempty"` // to the baseline; nil: it has no such figure
}

// Ratio is the median of the ratios to the baseline in the same round, with the lowest and
// the highest.
type Ratio struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

// quantities are the figures of a cell. Those of a lower value are better, except the rate.
var quantities = []struct {
	name   string
	figure func(*Cell) **Figure
	value  func(measurement) float64
}{
	{"rate", func(c *Cell) **Figure { return &c.Rate }, func(m measurement) float64 { return m.rate }},
	{"median", func(c *Cell) **Figure { return &c.Median }, func(m measurement) float64 { return micros(m.p50) }},
	{"99th percentile", func(c *Cell) **Figure { return &c.P99 }, func(m measurement) float64 { return micros(m.p99) }},
	{"processor time", func(c *Cell) **Figure { return &c.Proxy }, func(m measurement) float64 { return micros(m.processor) }},
	{"processor time of the database", func(c *Cell) **Figure { return &c.Database }, func(m measurement) float64 { return micros(m.database) }},
	{"processor time with the database's", func(c *Cell) **Figure { return &c.Total }, func(m measurement) float64 { return micros(m.processor + m.database) }},
	{"memory", func(c *Cell) **Figure { return &c.Memory }, func(m measurement) float64 { return m.memory }},
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// newCell is a cell from its rounds, with ratios to those of the baseline.
func newCell(load, target string, rounds, baseline []measurement) *Cell {
	c := &Cell{Load: load, Target: target}
	for _, q := range quantities {
		values := make([]float64, len(rounds))
		var ratios []float64
		for i, m := range rounds {
			values[i] = q.value(m)
			if i < len(baseline) && q.value(baseline[i]) > 0 {
				ratios = append(ratios, values[i]/q.value(baseline[i]))
			}
		}
		median, low, high := middle(values)
		if high == 0 {
			continue // not measured
		}
		f := &Figure{Median: round(median), Low: round(low), High: round(high)}
		if len(ratios) > 0 {
			median, low, high = middle(ratios)
			f.Ratio = &Ratio{Median: round(median), Low: round(low), High: round(high)}
		}
		*q.figure(c) = f
	}
	return c
}

// middle returns the median, the lowest and the highest of values; zeros if there are none.
func middle(values []float64) (median, low, high float64) {
	if len(values) == 0 {
		return 0, 0, 0
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2, sorted[0], sorted[n-1]
}

// round keeps four digits: more have no meaning.
func round(v float64) float64 {
	if v == 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return v
	}
	scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(v))))
	return math.Round(v*scale) / scale
}

// Cell returns the result of a load on a target; nil: it was not measured.
func (r *Report) Cell(load, target string) *Cell {
	for _, c := range r.Cells {
		if c.Load == load && c.Target == target {
			return c
		}
	}
	return nil
}

// ReadReport reads a report.
func ReadReport(path string) (*Report, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &Report{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("read %s: %w: run make bench to write it again", path, err)
	}
	return r, nil
}

// Write writes the report.
func (r *Report) Write(path string) error {
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// Merge adds the cells and versions of an earlier report that this one does not have: those
// of loads and targets that were not measured again.
func (r *Report) Merge(earlier *Report) {
	for _, c := range earlier.Cells {
		if r.Cell(c.Load, c.Target) == nil {
			r.Cells = append(r.Cells, c)
		}
	}
	for name, version := range earlier.Versions {
		if r.Versions[name] == "" {
			r.Versions[name] = version
		}
	}
}
