package policycmd

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	identitypg "github.com/sallyport/sallyport/identity/postgres"
	"github.com/sallyport/sallyport/policy/rego"
	"github.com/sallyport/sallyport/webhook"
)

// failOn are the values of --fail-on, and what they mean.
var failOn = map[string]func(*replaySummary) bool{
	"none":   func(*replaySummary) bool { return false },
	"closed": func(s *replaySummary) bool { return s.Closed > 0 },
	"opened": func(s *replaySummary) bool { return s.Opened > 0 },
	"any":    func(s *replaySummary) bool { return s.Differ > 0 },
}

// failOnValues are the values, the default first.
var failOnValues = []string{"none", "closed", "opened", "any"}

func newPolicyReplay() *cobra.Command {
	c := &cobra.Command{
		Use:   "replay DIR | --as-decided",
		Short: "Report which past decisions a policy would change",
		Long: `Evaluate the recorded requests by the policy in DIR, each at its own time, and
report which decisions would differ: grouped by repository, deployment, target,
verdicts and rule, with how many there were and the id of one.

  sallyport policy replay . --since 30d
  sallyport policy replay . --export audit.jsonl --since 14d --fail-on closed

A verdict is allow, would deny (it passes in report mode only) or deny; error is a
policy that cannot answer, which denies. Only decisions for which the policy was
evaluated are compared.

With --as-decided and no DIR every decision is evaluated by the revision that made it, as
the log keeps it, at its own time: whether it comes out with the verdict, the reason
and the rule that were recorded. One that does not, has no revision, or has one that
the log does not hold, ends the command with status 1.

  sallyport policy replay --as-decided --since 1d

--fail-on names the differences that end it with status 1: closed (what passed would
be refused), opened (what was refused would pass), or any.`,
	}
	from := addHistoryFlags(c, "30d")
	asDecided := c.Flags().Bool("as-decided", false, "evaluate every decision by the revision that made it")
	c.Args = func(c *cobra.Command, args []string) error {
		if !*asDecided {
			return oneDirectory(c, args)
		}
		if len(args) > 0 {
			return cli.Invalid(fmt.Errorf("--as-decided asks the policies that decided: leave out %s\nsee: %s --help", args[0], c.CommandPath()))
		}
		return nil
	}
	fail := cli.AddChoiceFlag(c, "fail-on", "when to fail", failOnValues...)
	repository := c.Flags().String("repository", "", "only this repository: `WORKSPACE/NAME` or a UUID")
	from.CompleteNames(c, "repository", identitypg.NameRepository)
	withoutNames := c.Flags().Bool("without-names", false, withoutNamesUsage)
	limit := c.Flags().Int("groups", 100, "how many groups to show; 0 is all that were kept")
	asJSON := cli.AddFormatFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if *limit < 0 {
			return cli.Invalid(fmt.Errorf("--groups %d: want 0 or more", *limit))
		}
		fails := failOn[fail.Value]
		s, err := replayBy(c, from, args, *withoutNames, *repository)
		if err != nil {
			return err
		}
		if *limit > 0 && len(s.Groups) > *limit {
			s.Hidden = len(s.Groups) - *limit
			s.Groups = s.Groups[:*limit]
		}
		if asJSON() {
			err = cli.PrintJSON(c.OutOrStdout(), s)
		} else {
			err = s.print(c.OutOrStdout())
		}
		if err == nil && (fails(s) || s.AsDecided && s.Differ > 0) {
			return cli.FindingError{}
		}
		return err
	}
	return c
}

// replayBy replays by the policy in a directory, or by those that decided.
func replayBy(c *cobra.Command, from historyFlags, directories []string, withoutNames bool, repository string) (*replaySummary, error) {
	if len(directories) == 0 {
		return replayOwn(c, from, repository)
	}
	set, err := loadTree(c.Context(), directories[0], !withoutNames)
	if err != nil {
		return nil, err
	}
	h, err := from.open(c)
	if err != nil {
		return nil, err
	}
	defer h.close()
	h.deliveries = true
	s, err := replayAll(c.Context(), h, set, repository)
	if err != nil {
		return nil, cli.Invalid(err)
	}
	return s, nil
}

// replaySummary is what a replay found.
type replaySummary struct {
	Revision     string `json:"revision,omitempty"`
	AsDecided    bool   `json:"as_decided,omitempty"` // by the revisions that decided
	Revisions    int    `json:"revisions,omitempty"`  // so many
	Decisions    int64  `json:"decisions"`            // checked
	NotEvaluated int64  `json:"not_evaluated"`        // refused before policy was evaluated
	Evaluated    int64  `json:"evaluated"`            // the others were the same question as an earlier one
	Differ       int64  `json:"differ"`
	Closed       int64  `json:"closed"`
	Opened       int64  `json:"opened"`
	// Routed are deliveries that pass in both cases, by other routes or by the configuration
	// in one of them.
	Routed int64          `json:"routed,omitempty"`
	Errors int64          `json:"errors"`
	Groups []*replayGroup `json:"groups"`
	Hidden int            `json:"hidden_groups,omitempty"`
	// Ungrouped are differences in groups that there was no room for.
	Ungrouped int64 `json:"ungrouped,omitempty"`
}

// replayKey is what differences are grouped by.
type replayKey struct {
	Repository string `json:"repository"`
	Deployment string `json:"deployment,omitempty"`
	Target     string `json:"target"`
	From       string `json:"from"`
	To         string `json:"to"`
	OldRule    string `json:"old_rule"`
	Rule       string `json:"rule"`
}

type replayGroup struct {
	replayKey
	Count   int64     `json:"count"`
	Latest  time.Time `json:"latest"`
	Example string    `json:"example"`
	Error   string    `json:"error,omitempty"`
}

// maxGroups bounds what one evaluating routine keeps.
const maxGroups = 20_000

// replayPart is what one routine found.
type replayPart struct {
	replaySummary
	groups map[replayKey]*replayGroup
}

// replayBatch is how many records go from the reader to a routine at once.
const replayBatch = 256

// replayAll puts all decisions of the history to a set.
func replayAll(ctx context.Context, h *history, set *rego.Set, repository string) (*replaySummary, error) {
	replayer := rego.NewReplayer(set)
	all, err := eachPart(ctx, h, func(ctx context.Context, p *replayPart, record []byte) error {
		return p.replay(ctx, h, replayer, record, repository)
	})
	if err == nil {
		all.Revision, all.Evaluated = set.Revision().Digest, replayer.Evaluated()
	}
	return all, err
}

// eachPart gives each decision of the history to one of several routines, and puts
// together what they found. What is in memory is a few batches of records, the
// answers that a replayer remembers, and the groups.
func eachPart(ctx context.Context, h *history, f func(ctx context.Context, p *replayPart, record []byte) error) (*replaySummary, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	workers := runtime.GOMAXPROCS(0)
	batches := make(chan [][]byte, workers)
	parts := make([]replayPart, workers)
	var group sync.WaitGroup
	for i := range parts {
		parts[i].groups = map[replayKey]*replayGroup{}
		group.Go(func() {
			for batch := range batches {
				for _, record := range batch {
					if ctx.Err() != nil {
						break
					}
					if err := f(ctx, &parts[i], record); err != nil {
						cancel(err)
					}
				}
			}
		})
	}
	err := sendBatches(ctx, h, batches)
	close(batches)
	group.Wait()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if err != nil {
		return nil, err
	}
	all := &replaySummary{Groups: []*replayGroup{}}
	mergeReplay(all, parts)
	return all, nil
}

// sendBatches copies the records, a batch into one piece of memory.
func sendBatches(ctx context.Context, h *history, batches chan<- [][]byte) error {
	var batch [][]byte
	var arena []byte
	send := func() error {
		select {
		case batches <- batch:
			batch, arena = make([][]byte, 0, replayBatch), make([]byte, 0, cap(arena))
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	err := h.records(ctx, func(record []byte) error {
		if len(arena)+len(record) > cap(arena) {
			arena = make([]byte, 0, max(replayBatch*2048, len(record)))
		}
		at := len(arena)
		arena = append(arena, record...)
		batch = append(batch, arena[at:len(arena):len(arena)])
		if len(batch) < replayBatch {
			return nil
		}
		return send()
	})
	if err == nil && len(batch) > 0 {
		err = send()
	}
	return err
}

// replay puts one decision to the set. An error is one of reading.
func (p *replayPart) replay(ctx context.Context, h *history, replayer *rego.Replayer, record []byte, repository string) error {
	d, ok, err := h.decided(record)
	if err != nil || !ok || repository != "" && repository != d.Repository && repository != d.RepositoryUUID {
		return err
	}
	if d.Input == nil {
		p.NotEvaluated++
		return nil
	}
	then, known := recordedOutcome(&d)
	p.compare(ctx, replayer, &d, then, known)
	return nil
}

// compare evaluates a request by the set, and notes a decision that differs from the
// recorded one. known is false where the recorded one may have been an allow in report
// mode only.
func (p *replayPart) compare(ctx context.Context, replayer *rego.Replayer, d *audit.Decided, then string, known bool) {
	now := evaluateAgain(ctx, replayer, d)
	if ctx.Err() != nil {
		return
	}
	p.Decisions++
	to := now.outcome()
	if now.failed() {
		p.Errors++
		if d.Reason == "policy_error" {
			return
		}
	}
	if to == then && routesDiffer(d, &now) {
		p.Differ++
		p.Routed++
		p.note(d, then+", "+cmp.Or(d.Routes, "no route"), to+routedText(now.routes), now.Rule, nil)
		return
	}
	if to == then || !known && to == "would deny" || to == "deny" && mayBeDenied(d) {
		return
	}
	p.Differ++
	p.count(then, to)
	if !now.failed() {
		now.failure = nil
	}
	p.note(d, then, to, now.Rule, now.failure)
}

// count counts another outcome by its effect.
func (p *replayPart) count(then, to string) {
	switch {
	case passes(then) && !passes(to):
		p.Closed++
	case !passes(then) && passes(to):
		p.Opened++
	case (then == byConfiguration) != (to == byConfiguration):
		p.Routed++
	}
}

// routesDiffer reports whether a delivery that the policy lets pass has other routes than
// the recorded ones.
func routesDiffer(d *audit.Decided, now *evaluated) bool {
	return d.Kind == audit.KindWebhookReceived && now.failure == nil && passes(now.outcome()) && !webhook.SameRoutes(d.Routes, now.routes)
}

func (p *replayPart) note(d *audit.Decided, from, to, rule string, failure error) {
	key := replayKey{
		Repository: cmp.Or(d.Repository, d.RepositoryUUID), Deployment: cmp.Or(d.Deployment, d.DeploymentUUID),
		Target: targetOf(d), From: from, To: to, OldRule: d.Rule, Rule: rule,
	}
	g := p.groups[key]
	if g == nil {
		if len(p.groups) >= maxGroups {
			p.Ungrouped++
			return
		}
		g = &replayGroup{replayKey: key}
		if failure != nil {
			g.Error = failure.Error()
		}
		p.groups[key] = g
	}
	g.add(1, d.Time, d.ID)
}

// targetOf is what was requested: the host and port, or the receiver and event of a
// delivery.
func targetOf(d *audit.Decided) string {
	if rego.IsDelivery(d.Input) {
		receiver, event := receiverOf(d.Input)
		return receiver + " " + event
	}
	return net.JoinHostPort(d.Host, strconv.Itoa(d.Port))
}

// add counts, and keeps the latest as the example.
func (g *replayGroup) add(n int64, at time.Time, id string) {
	g.Count += n
	if g.Example == "" || at.After(g.Latest) || at.Equal(g.Latest) && id > g.Example {
		g.Latest, g.Example = at, id
	}
}

func mergeReplay(all *replaySummary, parts []replayPart) {
	groups := map[replayKey]*replayGroup{}
	for i := range parts {
		p := &parts[i]
		all.Decisions += p.Decisions
		all.NotEvaluated += p.NotEvaluated
		all.Differ += p.Differ
		all.Closed += p.Closed
		all.Opened += p.Opened
		all.Routed += p.Routed
		all.Errors += p.Errors
		all.Ungrouped += p.Ungrouped
		for key, g := range p.groups {
			if groups[key] == nil {
				groups[key] = g
				continue
			}
			groups[key].add(g.Count, g.Latest, g.Example)
		}
	}
	for _, g := range groups {
		all.Groups = append(all.Groups, g)
	}
	slices.SortFunc(all.Groups, func(a, b *replayGroup) int {
		return cmp.Or(-cmp.Compare(a.Count, b.Count), cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Deployment, b.Deployment),
			cmp.Compare(a.Target, b.Target), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To), cmp.Compare(a.OldRule, b.OldRule), cmp.Compare(a.Rule, b.Rule))
	})
}
