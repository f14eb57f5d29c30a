package policycmd

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy/rego"
)

func newPolicyWhoCan() *cobra.Command {
	c := &cobra.Command{
		Use:   "who-can DIR --to HOST[:PORT]",
		Short: "List which repositories and deployments may reach a target",
		Long: `Ask the policy in DIR about every repository and deployment that the log has seen
in that time: which of them may reach the target now. Where it depends on the
branch, it names those seen that may.

  sallyport policy who-can . --to api.partner.example --since 90d

A repository that has asked for nothing in that time is not known here.`,
		Args: oneDirectory,
	}
	from := addHistoryFlags(c, "30d")
	var flags requestFlags
	c.Flags().StringVar(&flags.to, "to", "", "where to: `HOST[:PORT]`; without a port 443, or 80 for an HTTP request")
	c.Flags().StringVar(&flags.method, "method", "", "the `METHOD` of an HTTP request")
	c.Flags().StringVar(&flags.path, "path", "", "the `PATH` of an HTTP request")
	at := c.Flags().String("at", "now", "the `TIME` of the question")
	all := c.Flags().Bool("all", false, "show those who may not, too")
	withoutNames := c.Flags().Bool("without-names", false, withoutNamesUsage)
	asJSON := cli.AddFormatFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		now, err := cli.ParseTime(*at, time.Now())
		if err != nil {
			return cli.Invalid(fmt.Errorf("--at: %w", err))
		}
		w := &whoCan{ctx: c.Context(), flags: flags, at: now, seen: map[principalKey]bool{}, groups: map[[2]string]*principalGroup{}}
		if _, err := flags.request(&identity.Principal{}, now); err != nil {
			return cli.Invalid(err)
		}
		if w.set, err = loadTree(c.Context(), args[0], !*withoutNames); err != nil {
			return err
		}
		h, err := from.open(c)
		if err != nil {
			return err
		}
		defer h.close()
		if err := h.decisions(c.Context(), w.evaluate); err != nil {
			return cli.Invalid(err)
		}
		return w.print(c.OutOrStdout(), *all, asJSON())
	}
	return c
}

// whoCan asks one question for everybody whom the log has seen.
type whoCan struct {
	ctx    context.Context
	set    *rego.Set
	flags  requestFlags
	at     time.Time
	seen   map[principalKey]bool
	groups map[[2]string]*principalGroup
}

// principalKey is what distinguishes principals, except for their pipeline and step.
type principalKey struct{ workspace, repository, repositoryUUID, deployment, deploymentUUID, branch string }

// principalGroup is what came out for a repository and a deployment.
type principalGroup struct {
	Repository string   `json:"repository"`
	Deployment string   `json:"deployment,omitempty"`
	Verdict    string   `json:"verdict"` // the most that any branch may
	Rules      []string `json:"rules"`
	// Branches are some of those that may, where others may not.
	Branches []string  `json:"branches,omitempty"`
	Seen     time.Time `json:"last_seen"`
	Error    string    `json:"error,omitempty"`

	passes, others bool
}

// Bounds of what is kept.
const (
	maxSeen     = 200_000
	maxBranches = 20
)

func (w *whoCan) evaluate(d *audit.Decided) error {
	if d.Input == nil {
		return nil
	}
	name := [2]string{cmp.Or(d.Repository, d.RepositoryUUID), cmp.Or(d.Deployment, d.DeploymentUUID)}
	g := w.groups[name]
	if g == nil {
		g = &principalGroup{Repository: name[0], Deployment: name[1], Verdict: "deny", Rules: []string{}}
		w.groups[name] = g
	}
	if d.Time.After(g.Seen) {
		g.Seen = d.Time
	}
	key := principalKey{d.Workspace, d.Repository, d.RepositoryUUID, d.Deployment, d.DeploymentUUID, d.Branch}
	if w.seen[key] {
		return nil
	}
	if len(w.seen) >= maxSeen {
		clear(w.seen) // the only effect: a principal that appears again is evaluated again
	}
	w.seen[key] = true
	p, err := principalOf(d.Input)
	if err != nil {
		return fmt.Errorf("decision %s: %w", d.ID, err)
	}
	request, err := w.flags.request(p, w.at)
	if err != nil {
		return err
	}
	decision, err := w.set.Decide(w.ctx, request)
	if w.ctx.Err() != nil {
		return w.ctx.Err()
	}
	if err != nil {
		g.Error = err.Error()
	}
	g.note(outcome(decision.Verdict, decision.WouldDeny), decision.Rule, d.Branch)
	return nil
}

func (g *principalGroup) note(verdict, rule, branch string) {
	if verdict == "deny" {
		g.others = true
		return
	}
	g.passes = true
	if g.Verdict != "allow" {
		g.Verdict = verdict
	}
	if rule != "" && !slices.Contains(g.Rules, rule) && len(g.Rules) < maxBranches {
		g.Rules = append(g.Rules, rule)
	}
	if branch = cmp.Or(branch, "no branch"); len(g.Branches) < maxBranches && !slices.Contains(g.Branches, branch) {
		g.Branches = append(g.Branches, branch)
	}
}

func (w *whoCan) print(out io.Writer, all, asJSON bool) error {
	list, may := []*principalGroup{}, 0
	for _, g := range w.groups {
		slices.Sort(g.Rules)
		slices.Sort(g.Branches)
		if !g.others {
			g.Branches = nil
		}
		if g.passes {
			may++
		}
		if g.passes || all {
			list = append(list, g)
		}
	}
	slices.SortFunc(list, func(a, b *principalGroup) int {
		return cmp.Or(cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Deployment, b.Deployment))
	})
	if asJSON {
		return cli.PrintJSON(out, struct {
			Target string            `json:"target"`
			Time   time.Time         `json:"time"`
			Seen   int               `json:"seen"`
			May    int               `json:"may"`
			Who    []*principalGroup `json:"who"`
		}{w.flags.to, w.at, len(w.groups), may, list})
	}
	var b strings.Builder
	for _, g := range list {
		fmt.Fprintf(&b, "%s  %s  %s", g.Repository, cmp.Or(g.Deployment, "-"), g.Verdict)
		if len(g.Rules) > 0 {
			fmt.Fprintf(&b, " by %s", strings.Join(g.Rules, ", "))
		}
		if len(g.Branches) > 0 {
			fmt.Fprintf(&b, ", from %s only", strings.Join(g.Branches, ", "))
		}
		b.WriteByte('\n')
		if g.Error != "" {
			fmt.Fprintf(&b, "  %s\n", g.Error)
		}
	}
	fmt.Fprintf(&b, "%d of %d repositories and deployments that were seen may reach %s\n", may, len(w.groups), w.flags.to)
	_, err := io.WriteString(out, b.String())
	return err
}
