package policycmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/uuid"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego"
	"github.com/sallyport/sallyport/webhook"
)

func newPolicyExplain() *cobra.Command {
	c := &cobra.Command{
		Use:   "explain DECISION_ID",
		Short: "Evaluate a recorded decision again, and explain it",
		Long: `Evaluate a decision of the log again: with the input that was recorded, at its
own time, by the policy that decided, which the log keeps. The output has whether
the verdict, the reason and the rule are the recorded ones and, for every rule,
whether it matched, or the first condition that did not hold.

  sallyport policy explain 01a1fdf4-c192-7cf7-900b-49ceb24f5238

An export holds no policies: with --export, --policy names the policy's directory
at that revision. --policy may also name another state of the policy.`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return cli.Invalid(fmt.Errorf("which decision? Give one id\nsee: %s --help", c.CommandPath()))
			}
			return nil
		},
	}
	from := addHistoryFlags(c, "")
	tree := c.Flags().String("policy", "", "evaluate it by the policy in this `DIR` instead")
	asJSON := cli.AddFormatFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		id, ok := uuid.Parse(args[0])
		if !ok {
			return cli.Invalid(fmt.Errorf("%q is not a decision's id: it is a UUID such as 01a1fdf4-c192-7cf7-900b-49ceb24f5238", args[0]))
		}
		h, err := from.open(c)
		if err != nil {
			return err
		}
		defer h.close()
		d, err := h.decision(c.Context(), id)
		if err != nil {
			return err
		}
		if d.Input == nil {
			return fmt.Errorf("explain: the record of %s has no input: policy was not asked about it (its reason is %s, see docs/reasons.md), or its input was over 8 KiB and only the digest was recorded", id, d.Reason)
		}
		set, err := policyOf(c.Context(), h, d, *tree)
		if err != nil {
			return err
		}
		x, failure := explainAgain(c.Context(), set, d)
		again := reproduction(d, x.Decision, failure)
		if x.delivery != nil {
			again.compareRoutes(d, x.delivery.Decision.Routes)
		}
		if asJSON() {
			err = cli.PrintJSON(c.OutOrStdout(), again.json(d, x))
		} else {
			err = again.print(c.OutOrStdout(), d, x)
		}
		if err == nil && !again.Reproduced {
			return cli.FindingError{}
		}
		return err
	}
	return c
}

// explained is an explanation of a decision about a request or a delivery.
type explained struct {
	rego.Explanation
	delivery *rego.DeliveryExplanation // nil: a request
}

// explainAgain evaluates the input of a decision, and explains the result.
func explainAgain(ctx context.Context, set *rego.Set, d *audit.Decided) (*explained, error) {
	if !rego.IsDelivery(d.Input) {
		x, err := set.Explain(ctx, d.Input)
		return &explained{Explanation: *x}, err
	}
	x, err := set.ExplainDelivery(ctx, d.Input)
	return &explained{rego.Explanation{Decision: asDecision(x.Decision), Rules: x.Rules}, x}, err
}

// policyOf loads the policy that decided, or the one in a directory.
func policyOf(ctx context.Context, h *history, d *audit.Decided, directory string) (*rego.Set, error) {
	if directory != "" {
		return loadTree(ctx, directory, hasNames(d.Input))
	}
	set, err := h.decidedBy(ctx, d)
	if err != nil {
		return nil, cli.Invalid(err)
	}
	return set, nil
}

// reproduced has whether a second evaluation of a decision has the recorded result.
type reproduced struct {
	Reproduced bool   `json:"reproduced"`
	Then       string `json:"then"`
	Now        string `json:"now"`
	Detail     string `json:"detail,omitempty"`
	Other      bool   `json:"other_policy,omitempty"`
}

// refusedLater describes a refusal whose recorded reason is not the policy's, if the policy's
// decision agrees with the record; otherwise it returns "".
func refusedLater(d *audit.Decided, now policy.Decision, then, outcome string) string {
	switch {
	case outcome == "deny" && mayBeDenied(d) && d.Rule == now.Rule:
		return "policy denied it, and the step or its repository was refused too often: " + d.Reason
	case outcome != "deny" && then == "allow" && d.Verdict != "allow" && d.Reason != string(now.Reason):
		return "policy allowed it, and it was refused afterwards: " + d.Reason
	}
	return ""
}

func reproduction(d *audit.Decided, now policy.Decision, failure error) reproduced {
	then, known := recordedOutcome(d)
	outcome := outcome(now.Verdict, now.WouldDeny)
	r := reproduced{Then: then, Now: outcome, Other: now.Revision.Digest != d.Revision}
	later := refusedLater(d, now, then, outcome)
	switch {
	case d.Reason == "policy_error" || failure != nil:
		r.compareFailures(d, failure)
	case later != "":
		r.Reproduced, r.Detail = true, later
	case then != outcome && known:
		r.Detail = "the verdict is another one"
	case d.Reason != string(now.Reason):
		r.Detail = fmt.Sprintf("the reason was %s and is %s", d.Reason, now.Reason)
	case d.Rule != now.Rule:
		r.Detail = fmt.Sprintf("the rule was %q and is %q", d.Rule, now.Rule)
	case d.Kind == audit.KindWebhookReceived && !slices.Equal(d.Rules, now.Rules):
		r.Detail = fmt.Sprintf("the rules that matched were %q and are %q", d.Rules, now.Rules)
	case d.Verdict == "allow" && !slices.Equal(d.Exceptions, placesOf(now.Exceptions)):
		r.Detail = fmt.Sprintf("the exceptions that applied were %q and are %q", d.Exceptions, placesOf(now.Exceptions))
	default:
		r.Reproduced = true
	}
	return r
}

// compareRoutes compares the routes of a delivery that passes, if all else is as recorded.
func (r *reproduced) compareRoutes(d *audit.Decided, routes []webhook.Route) {
	if r.Reproduced && passes(r.Now) && r.Now != byConfiguration && !webhook.SameRoutes(d.Routes, routes) {
		r.Reproduced, r.Detail = false, fmt.Sprintf("the routes were %q and are %q", d.Routes, webhook.RoutesText(routes))
	}
}

// compareFailures compares an evaluation that failed then, or fails now.
func (r *reproduced) compareFailures(d *audit.Decided, failure error) {
	switch {
	case errors.Is(failure, webhook.ErrNoRules):
		r.Now, r.Reproduced = byConfiguration, r.Then == byConfiguration
		r.Detail = "the policy has no package sallyport.webhook: the receiver's configured actions apply"
	case d.Reason == "policy_error" && strings.HasPrefix(d.Message, rego.RejectedText) && !r.Other:
		r.Reproduced, r.Now, r.Detail = true, "error", "the repository's rules were not evaluated then: "+d.Message
	case failure != nil && d.Reason == "policy_error":
		r.Reproduced, r.Detail = true, "it could not be evaluated then, and cannot now: "+failure.Error()
	case failure != nil:
		r.Now, r.Detail = "error", "it cannot be evaluated: "+failure.Error()
	default:
		r.Detail = "it could not be evaluated then: it may have taken too long, or the server was at fault; see the server's log"
	}
}

func (r reproduced) print(w io.Writer, d *audit.Decided, x *explained) error {
	var b strings.Builder
	fmt.Fprintf(&b, "decision %s\n", d.ID)
	line := cli.FieldLines(&b)
	line("time", d.Time.Format(time.RFC3339Nano))
	line("repository", cmp.Or(d.Repository, d.RepositoryUUID))
	line("deployment", cmp.Or(d.Deployment, d.DeploymentUUID))
	line("branch", d.Branch)
	if x.delivery != nil {
		line("delivery", describeDelivery(d.Input))
	} else {
		line("asked for", d.Action+" "+net.JoinHostPort(d.Host, strconv.Itoa(d.Port)))
	}
	line("verdict", d.Verdict)
	line("reason", d.Reason)
	line("rule", d.Rule)
	line("policy", d.Revision)
	line("commit", d.Commit)
	line("repository's", d.RepositoryRevision)
	switch {
	case r.Reproduced && !r.Other:
		b.WriteString("\nreproduced\n")
	case r.Reproduced:
		b.WriteString("\nthe other policy has the same result\n")
	case r.Other:
		b.WriteString("\nthe other policy has another result\n")
	default:
		b.WriteString("\nNOT reproduced\n")
	}
	if r.Detail != "" {
		fmt.Fprintf(&b, "  %s\n", r.Detail)
	}
	if r.Now != "error" && r.Now != byConfiguration {
		if x.delivery != nil {
			printDeliveryDecided(&b, x.delivery.Decision)
		} else {
			printDecided(&b, x.Decision)
		}
		printRules(&b, x.Rules)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r reproduced) json(d *audit.Decided, x *explained) any {
	head := decisionHead{d.ID, d.Time, r}
	if x.delivery != nil {
		return struct {
			decisionHead
			deliveryExplainedJSON
		}{head, deliveryExplanationJSON(x.delivery)}
	}
	return struct {
		decisionHead
		explainedJSON
	}{head, explanationJSON(&x.Explanation)}
}

// decisionHead begins the JSON of a decision that was evaluated again.
type decisionHead struct {
	DecisionID string    `json:"decision_id"`
	Time       time.Time `json:"time"`
	reproduced
}
