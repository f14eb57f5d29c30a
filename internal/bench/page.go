package bench

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// The page has the tables between these two lines; the text around them is prose.
const (
	begin = "<!-- make bench writes from here -->\n"
	end   = "<!-- to here -->\n"
)

// WritePage writes the tables of a report into the page.
func WritePage(path string, r *Report) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if text, err = r.page(text); err != nil {
		return fmt.Errorf("write the tables of %s: %w", path, err)
	}
	return os.WriteFile(path, text, 0o644)
}

// page returns the page with the tables.
func (r *Report) page(text []byte) ([]byte, error) {
	before, rest, found := bytes.Cut(text, []byte(begin))
	_, after, ended := bytes.Cut(rest, []byte(end))
	if !found || !ended {
		return nil, fmt.Errorf("the lines %q and %q are missing: restore them", strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	var b bytes.Buffer
	b.Write(before)
	b.WriteString(begin + "\n")
	r.writeAbout(&b)
	all, parts := r.targets()
	r.writeLoads(&b, all)
	r.writeParts(&b, parts)
	b.WriteString(end)
	b.Write(after)
	return b.Bytes(), nil
}

// partPrefix begins the name of a target that lacks one part.
const partPrefix = "without "

// targets are the measured targets in order: those of the table, and those without a part.
func (r *Report) targets() (all, parts []string) {
	for _, c := range r.Cells {
		list := &all
		if strings.HasPrefix(c.Target, partPrefix) {
			list = &parts
		}
		if !slices.Contains(*list, c.Target) {
			*list = append(*list, c.Target)
		}
	}
	// The direct connection and the baseline come first, as what the others compare with.
	rank := func(name string) int { return slices.Index([]string{r.Baseline, "direct"}, name) }
	slices.SortStableFunc(all, func(a, b string) int { return rank(b) - rank(a) })
	return all, parts
}

func (r *Report) writeAbout(b *bytes.Buffer) {
	fmt.Fprintf(b, "- %s, commit %s.\n- Machine: %s.\n- Versions:", r.Date, r.Commit, r.Machine)
	separator := " "
	for _, name := range slices.Sorted(maps.Keys(r.Versions)) {
		fmt.Fprintf(b, "%s%s %s", separator, name, r.Versions[name])
		separator = "; "
	}
	fmt.Fprintf(b, ".\n- Medians of %d rounds of %g s. In parentheses: the ratio to %s in the same round, and half the range of the rounds.\n\n", r.Rounds, r.Seconds, r.Baseline)
}

// rows are the rows of a load in the table.
var rows = []struct {
	title   string // after that of the load; "": its first row
	figure  func(*Cell) *Figure
	divisor float64
}{
	{"{units} per second", func(c *Cell) *Figure { return c.Rate }, 1},
	{"… median, µs", func(c *Cell) *Figure { return c.Median }, 1},
	{"… 99th percentile, µs", func(c *Cell) *Figure { return c.P99 }, 1},
	{"… processor time, µs per {unit}", func(c *Cell) *Figure { return c.Proxy }, 1},
	{"… with PostgreSQL's", func(c *Cell) *Figure {
		if c.Database == nil {
			return nil
		}
		return c.Total
	}, 1},
	{"KB", func(c *Cell) *Figure { return c.Memory }, 1000},
}

func (r *Report) writeLoads(b *bytes.Buffer, targets []string) {
	fmt.Fprintf(b, "| | %s |\n|%s\n", strings.Join(targets, " | "), strings.Repeat("---|", len(targets)+1))
	for _, l := range Loads() {
		for _, row := range rows {
			if l.Unit == "MiB" && strings.HasSuffix(row.title, "s, µs") || strings.HasSuffix(row.title, "percentile, µs") && l.Clients > 16 {
				continue
			}
			line, any := "", false
			for _, target := range targets {
				cell := r.text(l.Name, target, row.figure, row.divisor)
				line, any = line+" "+cell+" |", any || cell != ""
			}
			if any {
				fmt.Fprintf(b, "| %s |%s\n", rowTitle(l, row.title), line)
			}
		}
	}
	b.WriteString("\n")
}

func rowTitle(l *Load, title string) string {
	units := l.Unit + "s"
	if l.Unit == "MiB" {
		units = "MiB"
	}
	title = strings.NewReplacer("{units}", units, "{unit}", l.Unit).Replace(title)
	if strings.HasPrefix(title, "…") {
		return title
	}
	switch {
	case l.tunnels > 0:
		return l.Title + ", " + title
	case l.Clients == 1:
		return l.Title + ", one client: " + title
	}
	return fmt.Sprintf("%s, %d clients: %s", l.Title, l.Clients, title)
}

// text is the text of a figure in the table.
func (r *Report) text(load, target string, figure func(*Cell) *Figure, divisor float64) string {
	c := r.Cell(load, target)
	if c == nil {
		return ""
	}
	f := figure(c)
	if f == nil {
		return ""
	}
	value := f.Median / divisor
	text := thousands(value)
	if f.Ratio != nil && target != r.Baseline {
		text += fmt.Sprintf(" (%.2f ± %.2f)", f.Ratio.Median, (f.Ratio.High-f.Ratio.Low)/2)
	}
	return text
}

// thousands is a number with three digits or more, with separators.
func thousands(v float64) string {
	if v < 100 {
		return fmt.Sprintf("%.3g", v)
	}
	digits := fmt.Sprintf("%.0f", v)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// writeParts writes what each part costs: the figures without it, and the difference.
func (r *Report) writeParts(b *bytes.Buffer, targets []string) {
	const whole = "Sallyport"
	if len(targets) == 0 {
		return
	}
	b.WriteString("Without one of its parts, by a build overlay or the log level:\n\n| | new tunnel: processor time, µs | … with PostgreSQL's | GET: processor time, µs | … with PostgreSQL's |\n|---|---|---|---|---|\n")
	for _, target := range slices.Concat([]string{whole}, targets) {
		fmt.Fprintf(b, "| %s |", target)
		for _, load := range [...]string{"connect", "get"} {
			for _, figure := range [...]func(*Cell) *Figure{func(c *Cell) *Figure { return c.Proxy }, func(c *Cell) *Figure { return c.Total }} {
				text := r.text(load, target, figure, 1)
				text, _, _ = strings.Cut(text, " (")
				if c, all := r.Cell(load, target), r.Cell(load, whole); target != whole && c != nil && all != nil && figure(c) != nil && figure(all) != nil {
					text += fmt.Sprintf(" (%+.0f)", figure(c).Median-figure(all).Median)
				}
				fmt.Fprintf(b, " %s |", text)
			}
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
}
