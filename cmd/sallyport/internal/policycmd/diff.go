package policycmd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego"
)

func newPolicyDiff() *cobra.Command {
	c := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Compare the decisions of two policies",
		Long: `Evaluate the same requests by the policies in the directories OLD and NEW, and
report which decisions differ. The requests are those of a file, each principal
with each target:

  # cases.yaml
  principals:
    - repository=acme/payments,deployment=production
    - repository=acme/payments,branch=feature/x
  targets:
    - api.partner.example:443
    - 192.0.2.1:22

  sallyport policy diff main-checkout . --cases cases.yaml

or, without --cases, the recorded requests, from the log or an export of it:

  sallyport policy diff main-checkout . --since 14d

Principals are written as in "policy eval --as". --fail-on names what ends it with
status 1: closed (what passed would be refused), opened (what was refused would
pass), or any.`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 2 {
				return cli.Invalid(fmt.Errorf("give two directories: the old policy's and the new one's\nsee: %s --help", c.CommandPath()))
			}
			return nil
		},
	}
	from := addHistoryFlags(c, "30d")
	cases := c.Flags().String("cases", "", "read the requests from this `FILE`, YAML or JSON")
	at := c.Flags().String("at", "now", "the `TIME` of the requests of --cases")
	fail := cli.AddChoiceFlag(c, "fail-on", "when to fail", failOnValues...)
	withoutNames := c.Flags().Bool("without-names", false, withoutNamesUsage)
	asJSON := cli.AddFormatFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		fails := failOn[fail.Value]
		before, err := loadTree(c.Context(), args[0], !*withoutNames)
		if err != nil {
			return err
		}
		after, err := loadTree(c.Context(), args[1], !*withoutNames)
		if err != nil {
			return err
		}
		d := &differ{before: rego.NewReplayer(before), after: rego.NewReplayer(after)}
		var s *replaySummary
		if *cases != "" {
			now, problem := cli.ParseTime(*at, time.Now())
			if problem != nil {
				return cli.Invalid(fmt.Errorf("--at: %w", problem))
			}
			s, err = d.cases(c.Context(), before, *cases, now)
		} else {
			s, err = d.log(c, from)
		}
		if err != nil {
			return cli.Invalid(err)
		}
		s.Revision, s.Evaluated = after.Revision().Digest, d.after.Evaluated()
		if asJSON() {
			err = cli.PrintJSON(c.OutOrStdout(), s)
		} else {
			err = s.print(c.OutOrStdout())
		}
		if err == nil && fails(s) {
			return cli.FindingError{}
		}
		return err
	}
	return c
}

// differ puts questions to two policies.
type differ struct{ before, after *rego.Replayer }

// log takes the questions from the history.
func (f *differ) log(c *cobra.Command, from historyFlags) (*replaySummary, error) {
	h, err := from.open(c)
	if err != nil {
		return nil, err
	}
	defer h.close()
	h.deliveries = true
	return eachPart(c.Context(), h, func(ctx context.Context, p *replayPart, record []byte) error {
		d, ok, err := h.decided(record)
		if err != nil || !ok {
			return err
		}
		if d.Input == nil {
			p.NotEvaluated++
			return nil
		}
		f.compare(ctx, p, &d)
		return nil
	})
}

// compare evaluates both policies, and reports the old one's decision as if it had been
// recorded.
func (f *differ) compare(ctx context.Context, p *replayPart, d *audit.Decided) {
	old := evaluateAgain(ctx, f.before, d)
	if rego.IsDelivery(d.Input) && f.compareRoutes(ctx, p, d, old) {
		return
	}
	then := old.outcome()
	d.Rule, d.Reason = old.Rule, string(old.Reason)
	p.compare(ctx, f.after, d, then, true)
}

// compareRoutes notes a delivery that both policies let pass, with other routes, and
// reports whether it is such a delivery.
func (f *differ) compareRoutes(ctx context.Context, p *replayPart, d *audit.Decided, old evaluated) bool {
	now := evaluateAgain(ctx, f.after, d)
	if old.failure != nil || now.failure != nil || old.Verdict != policy.Allow || now.Verdict != policy.Allow || old.sameRoutes(now) {
		return false
	}
	p.Decisions++
	p.Differ++
	p.Routed++
	d.Rule = old.Rule
	p.note(d, old.outcome()+routedText(old.routes), now.outcome()+routedText(now.routes), now.Rule, nil)
	return true
}

// maxCases bounds a file of questions, and how many they are.
const maxCases = 1_000_000

// cases takes the questions from a file.
func (f *differ) cases(ctx context.Context, set *rego.Set, path string, at time.Time) (*replaySummary, error) {
	flags, err := readCases(ctx, path)
	if err != nil {
		return nil, err
	}
	part := replayPart{groups: map[replayKey]*replayGroup{}}
	for _, as := range flags.Principals {
		principal, err := parsePrincipal(as)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		for _, to := range flags.Targets {
			request, err := requestFlags{to: to}.request(principal, at)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			// The input does not depend on the policy, and is made first.
			decision, err := set.Decide(ctx, request)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if decision.Input == nil {
				return nil, err
			}
			d := &audit.Decided{ID: as, Time: at, Input: decision.Input, Repository: principal.Repository.FullName, RepositoryUUID: principal.Repository.UUID,
				Host: request.Target.Host, Port: int(request.Target.Port)}
			if principal.Deployment != nil {
				d.Deployment, d.DeploymentUUID = principal.Deployment.Slug, principal.Deployment.UUID
			}
			f.compare(ctx, &part, d)
		}
	}
	all := &replaySummary{Groups: []*replayGroup{}}
	mergeReplay(all, []replayPart{part})
	return all, nil
}

// casesFile is a file of questions.
type casesFile struct {
	Principals []string `json:"principals"`
	Targets    []string `json:"targets"`
}

func readCases(ctx context.Context, path string) (*casesFile, error) {
	raw, err := cli.ReadInput(ctx, path, cli.MaxListInput)
	if err != nil {
		return nil, fmt.Errorf("--cases %w", err)
	}
	document, err := rego.ReadDocument(ctx, path, raw)
	if err != nil {
		return nil, err
	}
	const shape = "write principals: and targets:, two lists of text; see sallyport policy diff --help"
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.DisallowUnknownFields()
	var cases casesFile
	if err := decoder.Decode(&cases); err != nil {
		return nil, fmt.Errorf("%s: %s: %s", path, strings.TrimPrefix(err.Error(), "json: "), shape)
	}
	switch n := len(cases.Principals) * len(cases.Targets); {
	case n == 0:
		return nil, fmt.Errorf("%s asks nothing: %s", path, shape)
	case n > maxCases:
		return nil, fmt.Errorf("%s has %d cases, and the maximum is %d", path, n, maxCases)
	}
	return &cases, nil
}
