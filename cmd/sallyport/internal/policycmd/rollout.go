package policycmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/components"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/bitbucketapi"
	"github.com/sallyport/sallyport/policy"
)

func newPolicyRollout() *cobra.Command {
	c := &cobra.Command{
		Use:   "rollout [DIR]",
		Short: "Report when each repository was last seen, its mode, and what would be denied or closed",
		Long: `Report for every repository that the log has seen in that time when it was last seen,
whether its denials are enforced, how often it was allowed, denied, and would have
been denied, and how many tunnels would have been closed for their first bytes: what
is still to do before everything is enforced. A second table lists the targets of
these tunnels, with the close reason of enforce mode and the key of a rule that
accepts them, which sallyport policy suggest writes.

A repository that does not go through the proxy at all shows as never seen: where
the configuration has Bitbucket's REST API, the command fetches the repositories of
each workspace. That list is complete, or the command fails. --without-bitbucket does
not fetch it; --repositories names a file with one full name a line instead of it, or
in addition. Those that asked for something before that time only, and those with rules in
DIR, are listed as well.

  sallyport policy rollout . --since 30d -c sallyport.yaml
  sallyport policy rollout . --export audit.jsonl --repositories repositories.txt

The mode is that of the latest decision; a denial that holds in report mode too
(enforce_in_report_mode) does not count. A renamed repository is listed with its old name.`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return cli.Invalid(fmt.Errorf("give one directory, or none\nsee: %s --help", c.CommandPath()))
			}
			return nil
		},
	}
	from := addHistoryFlags(c, "30d")
	listed := c.Flags().String("repositories", "", "a `FILE` with the full name of a repository on each line")
	withoutBitbucket := c.Flags().Bool("without-bitbucket", false, "do not ask Bitbucket for the workspaces' repositories")
	withoutNames := c.Flags().Bool("without-names", false, withoutNamesUsage)
	asJSON := cli.AddFormatFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		cover := &rollout{rows: map[string]*rolloutRow{}, latest: map[string]*rolloutRow{}}
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
			if err := cover.list(c.Context(), *listed); err != nil {
				return cli.Invalid(err)
			}
		}
		if err := cover.read(c.Context(), c, from, *withoutNames); err != nil {
			return err
		}
		if !*withoutNames && !*withoutBitbucket && *from.export == "" && *from.URLFile == "" {
			if err := cover.readAPI(c.Context(), *from.Config); err != nil {
				return err
			}
		}
		return cover.print(c.OutOrStdout(), asJSON())
	}
	return c
}

// rollout has the state of each repository.
type rollout struct {
	rows   map[string]*rolloutRow
	latest map[string]*rolloutRow // of each repository's UUID, by the name that it had last
}

type rolloutRow struct {
	Repository string     `json:"repository"`
	LastSeen   *time.Time `json:"last_seen"`      // null: never in this time
	Mode       string     `json:"mode,omitempty"` // of its latest decision by policy
	Allowed    int64      `json:"allowed"`
	WouldDeny  int64      `json:"would_deny"`
	WouldClose int64      `json:"would_close"` // tunnels that only report mode let continue
	Denied     int64      `json:"denied"`
	Refused    int64      `json:"refused"` // before policy was evaluated
	OwnRules   bool       `json:"own_rules,omitempty"`
	// RenamedTo is the name that Bitbucket knows it by now.
	RenamedTo string `json:"renamed_to,omitempty"`
	// Continued are the targets of the tunnels in WouldClose, at most maxUses of them.
	Continued []*continuedTarget `json:"would_close_targets,omitempty"`

	continued map[[2]string]*continuedTarget // by deployment and target
	decided   time.Time
	always    bool // Mode is that of a denial that may hold in report mode too
}

func (v *rollout) row(name string) *rolloutRow {
	r := v.rows[name]
	if r == nil {
		r = &rolloutRow{Repository: name}
		v.rows[name] = r
	}
	return r
}

// list adds the repositories that a file names.
func (v *rollout) list(ctx context.Context, path string) error {
	names, err := repositoryNames(ctx, path)
	for _, name := range names {
		v.row(name)
	}
	return err
}

// readAPI adds the repositories that Bitbucket lists, for each workspace with an API.
func (v *rollout) readAPI(ctx context.Context, configuration string) error {
	cfg, _, err := cli.LoadConfig(configuration)
	if err != nil {
		return err
	}
	for _, w := range components.Identity(cfg).Workspaces {
		list, err := bitbucketapi.ListRepositories(ctx, w.Slug, w.UUID, w.API, nil)
		if errors.Is(err, bitbucketapi.ErrNoAPI) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%w\nwhich repositories never came by is not known without the whole list: try again, or leave it out with --without-bitbucket", err)
		}
		for _, r := range list {
			v.listed(r)
		}
	}
	return nil
}

// listed adds one that Bitbucket lists. What the log knows under another name was
// renamed, and is not another repository that was never seen.
func (v *rollout) listed(r identity.KnownName) {
	if known := v.latest[r.RepositoryUUID]; known != nil && known.Repository != r.FullName && v.rows[r.FullName] == nil {
		known.RenamedTo = r.FullName
		return
	}
	v.row(r.FullName)
}

func (v *rollout) read(ctx context.Context, c *cobra.Command, from historyFlags, withoutNames bool) error {
	h, err := from.open(c)
	if err != nil {
		return err
	}
	defer h.close()
	if h.database != nil && !withoutNames {
		names, err := h.database.Repositories(ctx)
		if err != nil {
			return cli.Invalid(err)
		}
		for _, name := range names {
			v.row(name)
		}
	}
	name := func(repository, workspaceUUID, repositoryUUID string) string {
		if withoutNames && repositoryUUID != "" {
			return workspaceUUID + "/" + repositoryUUID
		}
		return cmp.Or(repository, repositoryUUID)
	}
	err = h.continued(ctx, func(d *audit.Decided) error {
		if name := name(d.Repository, d.WorkspaceUUID, d.RepositoryUUID); name != "" { // empty: the client is not known
			r := v.row(name)
			r.add(d)
			if last := v.latest[d.RepositoryUUID]; d.RepositoryUUID != "" && (last == nil || r.LastSeen.After(*last.LastSeen)) {
				v.latest[d.RepositoryUUID] = r
			}
		}
		return nil
	}, func(c *audit.Continued) error {
		if name := name(c.Repository, c.WorkspaceUUID, c.RepositoryUUID); name != "" {
			v.row(name).addContinued(c)
		}
		return nil
	})
	if err != nil {
		return cli.Invalid(err)
	}
	return nil
}

func (r *rolloutRow) add(d *audit.Decided) {
	if r.LastSeen == nil || d.Time.After(*r.LastSeen) {
		at := d.Time
		r.LastSeen = &at
	}
	if d.Input != nil && d.Mode != "" {
		r.addMode(d)
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

// addMode keeps the mode of the latest decision. A deny with enforce_in_report_mode is
// recorded as enforced in report mode too, and counts only if there is no other decision.
func (r *rolloutRow) addMode(d *audit.Decided) {
	always := d.Mode == "enforce" && d.Verdict != "allow" && policy.Reason(d.Reason) == policy.PolicyDenied
	if r.Mode == "" || r.always && !always || r.always == always && !d.Time.Before(r.decided) {
		r.decided, r.Mode, r.always = d.Time, d.Mode, always
	}
}
