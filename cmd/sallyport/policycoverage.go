package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	words "github.com/sallyport/sallyport/audit"
)

func newPolicyCoverage() *cobra.Command {
	c := &cobra.Command{
		Use:   "coverage [DIR]",
		Short: "Say of every repository when it was last seen, its mode, and what would be denied",
		Long: `Say of every repository that the log has seen in that time when that was, whether
its denials are enforced, how often it was allowed, denied, and would have been
denied: what is still to do before everything is enforced.

Those that asked for something before that time only are listed as never seen in
it. With the policy in DIR, repositories with rules of their own are marked, and
those that were never seen are listed too. --repositories names a file with one full name a
line (all of a workspace, as Bitbucket lists them), so that a repository that does
not go through the proxy at all shows as never seen.

  sallyport policy coverage . --since 30d --repositories repositories.txt

The exit status is 0; 2 where the command, the policy or the log is at fault.`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return invalid{fmt.Errorf("give one directory, or none\nsee: %s --help", c.CommandPath())}
			}
			return nil
		},
	}
	from := addHistoryFlags(c, "30d")
	listed := c.Flags().String("repositories", "", "a `FILE` with the full name of a repository on each line")
	withoutNames := c.Flags().Bool("without-names", false, withoutNamesUsage)
	asJSON := c.Flags().Bool("json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		cover := &coverage{rows: map[string]*coverageRow{}}
		if len(args) == 1 {
			set, err := loadTree(c.Context(), args[0], !*withoutNames)
			if err != nil {
				return err
			}
			for _, name := range set.Repositories() {
				cover.row(name).OwnRules = true
			}
		}
		if *listed != "" {
			if err := cover.list(*listed); err != nil {
				return invalid{err}
			}
		}
		if err := cover.read(c.Context(), c, from, *withoutNames); err != nil {
			return err
		}
		return cover.tell(c.OutOrStdout(), *asJSON)
	}
	return c
}

// coverage is what is known of each repository.
type coverage struct{ rows map[string]*coverageRow }

type coverageRow struct {
	Repository string     `json:"repository"`
	LastSeen   *time.Time `json:"last_seen"`      // null: never in this time
	Mode       string     `json:"mode,omitempty"` // of its latest decision by policy
	Allowed    int64      `json:"allowed"`
	WouldDeny  int64      `json:"would_deny"`
	Denied     int64      `json:"denied"`
	Refused    int64      `json:"refused"` // before policy was asked
	OwnRules   bool       `json:"own_rules,omitempty"`

	decided time.Time
}

func (v *coverage) row(name string) *coverageRow {
	r := v.rows[name]
	if r == nil {
		r = &coverageRow{Repository: name}
		v.rows[name] = r
	}
	return r
}

// list adds the repositories that a file names.
func (v *coverage) list(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("--repositories: %w", err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		name := strings.TrimSpace(lines.Text())
		switch {
		case name == "" || strings.HasPrefix(name, "#"):
		case !plainFolder(name):
			return fmt.Errorf("%s:%d: %.100q is no full name of a repository: write one a line, such as acme/payments", path, n, name)
		default:
			v.row(name)
		}
	}
	return lines.Err()
}

func (v *coverage) read(ctx context.Context, c *cobra.Command, from historyFlags, withoutNames bool) error {
	h, err := from.open(c)
	if err != nil {
		return err
	}
	defer h.close()
	if h.database != nil && !withoutNames {
		names, err := h.database.Repositories(ctx)
		if err != nil {
			return invalid{err}
		}
		for _, name := range names {
			v.row(name)
		}
	}
	err = h.decisions(ctx, func(d *words.Decided) error {
		name := cmp.Or(d.Repository, d.RepositoryUUID)
		if withoutNames && d.RepositoryUUID != "" {
			name = d.WorkspaceUUID + "/" + d.RepositoryUUID
		}
		if name != "" { // nobody known asked
			v.row(name).add(d)
		}
		return nil
	})
	if err != nil {
		return invalid{err}
	}
	return nil
}

func (r *coverageRow) add(d *words.Decided) {
	if r.LastSeen == nil || d.Time.After(*r.LastSeen) {
		at := d.Time
		r.LastSeen = &at
	}
	if d.Input != nil && d.Mode != "" && !d.Time.Before(r.decided) {
		r.decided, r.Mode = d.Time, d.Mode
	}
	switch {
	case d.Verdict == "allow" && d.WouldDeny:
		r.WouldDeny++
	case d.Verdict == "allow":
		r.Allowed++
	case d.Input == nil:
		r.Refused++
	default:
		r.Denied++
	}
}

func (v *coverage) tell(w io.Writer, asJSON bool) error {
	list := []*coverageRow{}
	never, enforced, open := 0, 0, 0
	for _, r := range v.rows {
		list = append(list, r)
		switch {
		case r.LastSeen == nil:
			never++
		case r.Mode == "enforce":
			enforced++
		}
		if r.WouldDeny > 0 {
			open++
		}
	}
	slices.SortFunc(list, func(a, b *coverageRow) int {
		return cmp.Or(-cmp.Compare(a.WouldDeny, b.WouldDeny), cmp.Compare(a.Repository, b.Repository))
	})
	if asJSON {
		return printJSON(w, struct {
			Repositories []*coverageRow `json:"repositories"`
			Never        int            `json:"never_seen"`
			Enforced     int            `json:"enforced"`
		}{list, never, enforced})
	}
	width := len("repository")
	for _, r := range list {
		width = max(width, len(r.Repository))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%-*s  %-20s  %-7s  %10s  %10s  %10s  %s\n", width, "repository", "last seen", "mode", "would deny", "denied", "allowed", "rules")
	for _, r := range list {
		seen, own := "never", ""
		if r.LastSeen != nil {
			seen = r.LastSeen.Format(time.RFC3339)
			seen = seen[:min(len(seen), 20)]
		}
		if r.OwnRules {
			own = "own"
		}
		line := fmt.Sprintf("%-*s  %-20s  %-7s  %10d  %10d  %10d  %s", width, r.Repository, seen, cmp.Or(r.Mode, "-"), r.WouldDeny, r.Denied, r.Allowed, own)
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	fmt.Fprintf(&b, "%d repositories: %d enforced, %d with something that would be denied, %d never seen\n", len(list), enforced, open, never)
	_, err := io.WriteString(w, b.String())
	return err
}
