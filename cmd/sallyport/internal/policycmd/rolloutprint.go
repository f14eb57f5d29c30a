package policycmd

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/printable"
)

// print writes the repositories, those with the most to do first.
func (v *rollout) print(w io.Writer, asJSON bool) error {
	list := []*rolloutRow{}
	never, enforced, open := 0, 0, 0
	for _, r := range v.rows {
		r.finishContinued()
		list = append(list, r)
		switch {
		case r.LastSeen == nil:
			never++
		case r.Mode == "enforce":
			enforced++
		}
		if r.WouldDeny+r.WouldClose > 0 {
			open++
		}
	}
	slices.SortFunc(list, func(a, b *rolloutRow) int {
		return cmp.Or(-cmp.Compare(a.WouldDeny, b.WouldDeny), -cmp.Compare(a.WouldClose, b.WouldClose), cmp.Compare(a.Repository, b.Repository))
	})
	if asJSON {
		return cli.PrintJSON(w, struct {
			Repositories []*rolloutRow `json:"repositories"`
			Never        int           `json:"never_seen"`
			Enforced     int           `json:"enforced"`
		}{list, never, enforced})
	}
	width := len("repository")
	for _, r := range list {
		width = max(width, len(r.Repository))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%-*s  %-20s  %-7s  %10s  %11s  %10s  %10s  %s\n", width, "repository", "last seen", "mode", "would deny", "would close", "denied", "allowed", "rules")
	for _, r := range list {
		b.WriteString(r.line(width))
	}
	fmt.Fprintf(&b, "%s: %d enforced, %d with something that would be denied or closed, %d never seen\n", printable.Count(len(list), "repository"), enforced, open, never)
	printContinued(&b, list)
	_, err := io.WriteString(w, b.String())
	return err
}

// line is the row of a repository.
func (r *rolloutRow) line(width int) string {
	seen, own := "never", ""
	if r.LastSeen != nil {
		seen = r.LastSeen.Format(time.RFC3339)
		seen = seen[:min(len(seen), 20)]
	}
	if r.OwnRules {
		own = "own"
	}
	if r.RenamedTo != "" {
		own = strings.TrimSpace(own + " now " + r.RenamedTo)
	}
	line := fmt.Sprintf("%-*s  %-20s  %-7s  %10d  %11d  %10d  %10d  %s", width, r.Repository, seen, cmp.Or(r.Mode, "-"), r.WouldDeny, r.WouldClose, r.Denied, r.Allowed, own)
	return strings.TrimRight(line, " ") + "\n"
}
