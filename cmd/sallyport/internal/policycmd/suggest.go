package policycmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/components"
	identitypg "github.com/sallyport/sallyport/identity/postgres"
	"github.com/sallyport/sallyport/internal/destination"
	"github.com/sallyport/sallyport/internal/regotext"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego"
)

// suggestedFile is the name of the file that a repository gets.
const suggestedFile = "observed.rego"

func newPolicySuggest() *cobra.Command {
	c := &cobra.Command{
		Use:   "suggest (--repository WORKSPACE/NAME | --all) --out DIR",
		Short: "Write rules for what repositories were observed to reach",
		Long: `Write, into the policy repository DIR, rules that allow what repositories were
observed to reach in that time and what the policy in DIR does not allow yet: one
file for each, repositories/<workspace>/<repository>/` + suggestedFile + `, with what
each line rests on as a comment beside it. Review it like any other change.

  sallyport policy suggest --all --out . --since 14d
  sallyport policy suggest --repository acme/payments --out . --refused

Traffic that passed counts, in report mode too; with --refused also what no rule
allowed. What a rule denies is not suggested, and is named in the file. The rules
that a repository has in DIR stay as they are: the new file holds what they do not
allow. Hosts are written as they were requested; no patterns are generated.

Nothing is written unless the policy with the new files in it loads. In a DIR
without rules for the organization, egress/` + suggestedFile + ` is written too: it keeps
everything in report mode, and lets the repositories' rules count.`,
		Args: cli.NoArguments,
	}
	from := addHistoryFlags(c, "14d")
	s := &suggester{}
	c.Flags().StringArrayVar(&s.only, "repository", nil, "for this repository: `WORKSPACE/NAME`, or a UUID; may be repeated")
	from.CompleteNames(c, "repository", identitypg.NameRepository)
	all := c.Flags().Bool("all", false, "for every repository that the log has seen")
	c.Flags().StringVar(&s.out, "out", "", "the policy repository to write into: `DIR`")
	c.Flags().BoolVar(&s.refused, "refused", false, "count what no rule allowed, too")
	c.Flags().BoolVar(&s.dry, "dry-run", false, "print the files instead of writing them")
	withoutNames := c.Flags().Bool("without-names", false, withoutNamesUsage)
	c.RunE = func(c *cobra.Command, _ []string) error {
		switch {
		case s.out == "":
			return cli.Invalid(errors.New("--out is missing: name the policy repository to write into"))
		case *all == (len(s.only) > 0):
			return cli.Invalid(errors.New("name the repositories: --repository acme/payments, or --all"))
		}
		s.names = !*withoutNames
		if err := s.begin(c.Context()); err != nil {
			return err
		}
		h, err := from.open(c)
		if err != nil {
			return err
		}
		defer h.close()
		s.since, s.until = h.since, h.until
		if err := h.outcomes(c.Context(), func(d *audit.Decided) error { return s.observe(c.Context(), d) }, s.noteClose); err != nil {
			return cli.Invalid(err)
		}
		return s.finish(c.Context(), c.OutOrStdout())
	}
	return c
}

// suggester turns observed traffic into rules.
// maxOthers bounds the names that a misspelled one is compared with.
const maxOthers = 10_000

type suggester struct {
	only         []string
	out          string
	refused, dry bool
	names        bool
	since, until time.Time

	tree     *policy.Snapshot
	set      *rego.Set // nil: there is no policy yet
	replayer *rego.Replayer
	// delegating answers as if every repository's rules counted: those of a repository
	// that nothing delegates to are not to be suggested again.
	delegating *rego.Replayer
	found      map[string]*observed
	seen       map[string]bool           // of only
	others     map[string]bool           // repositories of the log, for a name that it does not have
	made       map[string]*use           // by the decision's id, at most maxDecisions
	allowed    map[string]*allowedTunnel // by the decision's id, at most maxDecisions
}

// observed is what a repository did.
type observed struct {
	folder  string // workspace/repository, as the policy tree has it
	dropped int64  // decisions that there was no room for
	allowed int64  // decisions that the policy allows as it is
	waiting int64  // decisions that its own rules allow, once something delegates to it
	uses    map[useKey]*use
	strict  map[strictRule]int64 // tunnels that an allow of the policy does not accept
}

// useKey is one line of a suggestion.
type useKey struct {
	deployment string // empty: a step that deploys nothing
	http       bool
	host       string
	port       int
}

// use is the evidence for a line.
type use struct {
	useKey
	condition   string // on the deployment
	count       int64
	first, last time.Time
	pipelines   map[string]bool
	how         map[string]bool  // passed in report mode, …
	closed      map[string]int64 // tunnels that the proxy closed at their beginning, by close reason
	deny        string           // the rule that denies it: it is not suggested
	input       []byte           // one of them
}

// Bounds of what is kept.
const (
	maxUses      = 2_000   // of a repository
	maxPipelines = 1_000   // that are counted for a line
	maxDecisions = 500_000 // whose close is looked for
)

// begin loads the policy that is there.
func (s *suggester) begin(ctx context.Context) error {
	s.found, s.seen, s.others, s.made = map[string]*observed{}, map[string]bool{}, map[string]bool{}, map[string]*use{}
	s.allowed = map[string]*allowedTunnel{}
	if !holdsPolicy(s.out) {
		s.tree = &policy.Snapshot{}
		return nil
	}
	var err error
	if s.tree, err = policyTree(ctx, s.out); err != nil {
		return err
	}
	if s.set, err = components.LoadPolicy(ctx, s.out, s.tree, rego.Options{Names: s.names}); err != nil {
		return err
	}
	s.replayer = rego.NewReplayer(s.set)
	all, err := policy.NewSnapshot(append(slices.Clone(s.tree.Files), policy.File{Path: "egress/suggest-delegates.rego",
		Content: []byte("package sallyport.egress\n\ndelegate contains {\"rule\": \"sallyport:suggest\"}\n")}), "")
	if err != nil {
		return err
	}
	delegating, err := components.LoadPolicy(ctx, s.out, all, rego.Options{Names: s.names, SkipTests: true})
	if err != nil {
		return err
	}
	s.delegating = rego.NewReplayer(delegating)
	return nil
}

// observe takes one decision in.
func (s *suggester) observe(ctx context.Context, d *audit.Decided) error {
	if len(s.only) > 0 && len(s.others) < maxOthers {
		s.others[d.Repository] = true
	}
	if d.Input == nil || len(s.only) > 0 && !slices.Contains(s.only, d.Repository) && !slices.Contains(s.only, d.RepositoryUUID) {
		return nil
	}
	if len(s.only) > 0 {
		s.seen[d.Repository], s.seen[d.RepositoryUUID] = true, true
	}
	o := s.observedOf(d)
	how := s.passed(d)
	if how == "" {
		return nil
	}
	deny, isAllowed, err := s.replay(ctx, o, d)
	if err != nil || isAllowed {
		return err
	}
	u, err := o.note(d, how, deny, s.names)
	if err == nil && u != nil && d.Verdict == "allow" && len(s.made) < maxDecisions {
		s.made[d.ID] = u
	}
	return err
}

// observedOf returns what is observed of the repository of a decision.
func (s *suggester) observedOf(d *audit.Decided) *observed {
	folder := d.Repository
	if !s.names {
		folder = d.WorkspaceUUID + "/" + d.RepositoryUUID
	}
	o := s.found[folder]
	if o == nil {
		o = &observed{folder: folder, uses: map[useKey]*use{}}
		s.found[folder] = o
	}
	return o
}

// passed describes how a decision let its request pass, or would have; empty if it is
// nothing to suggest a rule for.
func (s *suggester) passed(d *audit.Decided) string {
	outcome, _ := recordedOutcome(d)
	switch {
	case d.Verdict == "allow" && outcome == "would deny":
		return "passed in report mode"
	case d.Verdict == "allow":
		return "was allowed by " + cmp.Or(regotext.RuleID(d.Rule), "no rule")
	case s.refused && policy.Reason(d.Reason) == policy.NoRuleMatched:
		return "was refused"
	}
	return ""
}

// replay evaluates a decision with the policy that is suggested for, if there is one. It
// counts what that policy allows, or would allow once the repository's rules count, and
// returns the rule that denies it.
func (s *suggester) replay(ctx context.Context, o *observed, d *audit.Decided) (deny string, isAllowed bool, err error) {
	if s.set == nil {
		return "", false, nil
	}
	now, err := s.replayer.Replay(ctx, d.Input)
	switch {
	case ctx.Err() != nil:
		return "", false, ctx.Err()
	case err != nil:
		return "", false, fmt.Errorf("decision %s: %w", d.ID, err)
	case now.Verdict == policy.Allow && !now.WouldDeny:
		o.allowed++
		s.noteAllowed(o, d, &now)
		return "", true, nil
	case now.Reason == policy.PolicyDenied:
		return now.Rule, false, nil
	case now.Reason != policy.NoRuleMatched || !slices.Contains(s.set.Repositories(), o.folder):
		return "", false, nil
	}
	later, err := s.delegating.Replay(ctx, d.Input)
	if err != nil {
		return "", false, fmt.Errorf("decision %s: %w", d.ID, err)
	}
	if later.Verdict == policy.Allow && (!later.WouldDeny || later.Reason == policy.PolicyAllowed) {
		o.waiting++
		return "", true, nil
	}
	return "", false, nil
}

// noteClose counts a tunnel that was allowed and closed before it carried a byte.
func (s *suggester) noteClose(decisionID, closeReason string) error {
	s.noteStrict(decisionID, closeReason)
	if u := s.made[decisionID]; u != nil {
		if u.closed == nil {
			u.closed = map[string]int64{}
		}
		u.closed[closeReason]++
	}
	return nil
}

// note counts one decision. It returns the line that the decision counts for, or
// nil where there is no room.
func (o *observed) note(d *audit.Decided, how, deny string, names bool) (*use, error) {
	key := useKey{deployment: cmp.Or(d.Deployment, d.DeploymentUUID), http: d.Action == string(policy.Forward), host: d.Host, port: d.Port}
	u := o.uses[key]
	if u == nil {
		// What is not a target has no place in a file of rules: an export may come from
		// anywhere.
		if t, err := destination.ParseAuthority(net.JoinHostPort(d.Host, strconv.Itoa(d.Port))); err != nil || t.Host != d.Host {
			return nil, fmt.Errorf("decision %s: its host is not canonical: run `sallyport audit verify` to check the log for damage", d.ID)
		}
		if len(o.uses) >= maxUses {
			o.dropped++
			return nil, nil
		}
		p, err := principalOf(d.Input)
		if err != nil {
			return nil, fmt.Errorf("decision %s: %w", d.ID, err)
		}
		u = &use{useKey: key, condition: "not input.principal.deployment", first: d.Time, last: d.Time,
			pipelines: map[string]bool{}, how: map[string]bool{}, deny: deny, input: slices.Clone(d.Input)}
		if dep := p.Deployment; dep != nil {
			switch {
			case names && dep.Slug != "":
				u.condition = fmt.Sprintf("input.principal.deployment.slug == %s", regotext.Quote(dep.Slug))
			case names && dep.Name != "":
				u.condition = fmt.Sprintf("input.principal.deployment.name == %s", regotext.Quote(dep.Name))
			default:
				u.condition = fmt.Sprintf("input.principal.deployment.uuid == %s", regotext.Quote(dep.UUID))
			}
		}
		o.uses[key] = u
	}
	u.count++
	if d.Time.Before(u.first) {
		u.first = d.Time
	}
	if d.Time.After(u.last) {
		u.last = d.Time
	}
	if len(u.pipelines) < maxPipelines {
		u.pipelines[d.PipelineUUID] = true
	}
	if len(u.how) < 3 {
		u.how[how] = true
	}
	return u, nil
}
