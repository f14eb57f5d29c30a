package policycmd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/nearest"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego"
	"github.com/sallyport/sallyport/webhook"
)

// askedDelivery is the delivery that the flags of a command describe.
type askedDelivery struct{ file, receiver, kind, event, client string }

// addDeliveryFlags adds the flags that describe a delivery.
func addDeliveryFlags(c *cobra.Command) func() askedDelivery {
	var a askedDelivery
	c.Flags().StringVar(&a.file, "delivery", "", "a `FILE` with the body of a webhook delivery, - for standard input")
	c.Flags().StringVar(&a.receiver, "receiver", "", "the `NAME` of the receiver that gets the delivery")
	c.Flags().StringVar(&a.event, "event", "", "the event `KEY` of the delivery, such as repo:push")
	c.Flags().StringVar(&a.client, "client", "0.0.0.0", "the `ADDRESS` that the delivery comes from")
	kind := cli.AddChoiceFlag(c, "kind", "the product that sends the delivery", "cloud", "data_center")
	return func() askedDelivery {
		a.kind = kind.Value
		return a
	}
}

// read makes a delivery of a file with the body that Bitbucket sends.
func (a askedDelivery) read(ctx context.Context, at time.Time) (*webhook.Delivery, error) {
	kind := webhook.Cloud
	if a.kind == webhook.DataCenter.String() {
		kind = webhook.DataCenter
	}
	switch {
	case a.receiver == "":
		return nil, errors.New("--receiver is missing: name the receiver in webhooks.receivers that gets the delivery")
	case a.event == "":
		return nil, errors.New("--event is missing: write the value of X-Event-Key, such as --event repo:push")
	case !webhook.IsEvent(kind, a.event):
		hint := "see the events of your product in Bitbucket's documentation"
		if n := nearest.Of(a.event, webhook.Events(kind)); n != "" {
			hint = "did you mean " + n + "?"
		}
		return nil, fmt.Errorf("--event %.100q is not an event of kind %s: %s", a.event, kind, hint)
	}
	client, err := netip.ParseAddr(a.client)
	if err != nil {
		return nil, fmt.Errorf("--client %.100q is not an IP address", a.client)
	}
	body, err := cli.ReadInput(ctx, a.file, webhook.MaxBody)
	if err != nil {
		return nil, fmt.Errorf("--delivery %w", err)
	}
	event, err := webhook.Parse(kind, a.event, body)
	if err != nil {
		return nil, fmt.Errorf("--delivery %s: %w", a.file, err)
	}
	return &webhook.Delivery{Receiver: a.receiver, Event: event, Body: body, Client: client.Unmap(), Received: at}, nil
}

// deliveryEvaluation is an evaluation of a policy for one delivery, as flags describe it.
type deliveryEvaluation struct {
	flags                  askedDelivery
	at                     time.Time
	names, explain, asJSON bool
	expect                 string
}

// run evaluates the policy in a directory, and prints the decision.
func (e deliveryEvaluation) run(c *cobra.Command, directory string) error {
	d, err := e.flags.read(c.Context(), e.at)
	if err != nil {
		return cli.Invalid(err)
	}
	set, err := loadTree(c.Context(), directory, e.names)
	if err != nil {
		return err
	}
	x, err := decideDelivery(c.Context(), set, d, e.explain)
	if err != nil {
		return err
	}
	if e.asJSON {
		err = cli.PrintJSON(c.OutOrStdout(), deliveryExplanationJSON(x))
	} else {
		err = printDelivery(c.OutOrStdout(), x)
	}
	return cmp.Or(err, expected(e.expect, x.Decision.Verdict))
}

// decideDelivery evaluates a policy for a delivery, and explains the decision if explain
// is set.
func decideDelivery(ctx context.Context, set *rego.Set, d *webhook.Delivery, explain bool) (*rego.DeliveryExplanation, error) {
	decision, err := set.DecideDelivery(ctx, d)
	if errors.Is(err, webhook.ErrNoRules) {
		return nil, errors.New("the policy has no package sallyport.webhook: a delivery takes the actions that its receiver's configuration lists")
	}
	if err != nil {
		return nil, fmt.Errorf("a server would deny this delivery (policy_error): %w", err)
	}
	if !explain {
		return &rego.DeliveryExplanation{Decision: decision}, nil
	}
	return set.ExplainDelivery(ctx, decision.Input)
}

// asDecision is a decision about a delivery as one about a request, for comparisons and
// printing. It lacks the routes.
func asDecision(d webhook.Decision) policy.Decision {
	return policy.Decision{
		Verdict: d.Verdict, Mode: d.Mode, WouldDeny: d.WouldDeny, Reason: d.Reason, Rule: d.Rule, Rules: d.Rules,
		Message: d.Message, Revision: d.Revision, RepositoryRevision: d.RepositoryRevision, Input: d.Input, Duration: d.Duration,
	}
}

// routesText lists routes: forward to jenkins, refresh_policy.
func routesText(routes []webhook.Route) string {
	list := make([]string, len(routes))
	for i, r := range routes {
		list[i] = string(r.Action)
		if r.Endpoint != "" {
			list[i] += " to " + r.Endpoint
		}
	}
	return strings.Join(list, ", ")
}

// printDelivery writes a decision about a delivery and, where they are known, its rules.
func printDelivery(w io.Writer, x *rego.DeliveryExplanation) error {
	var b strings.Builder
	printDeliveryDecided(&b, x.Decision)
	printRules(&b, x.Rules)
	_, err := io.WriteString(w, b.String())
	return err
}

func printDeliveryDecided(b *strings.Builder, d webhook.Decision) {
	printVerdict(b, asDecision(d))
	line := cli.FieldLines(b)
	if d.Verdict == policy.Allow {
		line("routes", cmp.Or(routesText(d.Routes), "none"))
	}
	printRevision(b, asDecision(d))
}

// deliveryJSON is a decision about a delivery under the words of the log.
type deliveryJSON struct {
	decidedJSON
	Routes []webhook.Route `json:"routes,omitempty"`
}

type deliveryExplainedJSON struct {
	Decision deliveryJSON `json:"decision"`
	Rules    []ruleJSON   `json:"rules,omitempty"`
}

func deliveryExplanationJSON(x *rego.DeliveryExplanation) deliveryExplainedJSON {
	decided := decisionJSON(asDecision(x.Decision))
	decided.Protocol = ""
	return deliveryExplainedJSON{deliveryJSON{decided, x.Decision.Routes}, rulesJSON(x.Rules)}
}

// maxRefsShown bounds the refs of a delivery that are shown.
const maxRefsShown = 3

// describeDelivery is what a recorded input about a delivery is about: the receiver, the
// event and the refs that changed.
func describeDelivery(input []byte) string {
	receiver, event := receiverOf(input)
	var d struct {
		Refs []struct{ Type, Name, Change string }
	}
	_ = json.Unmarshal(input, &d) // of an input that cannot be read, there are none
	text := event + " to receiver " + receiver
	for _, r := range d.Refs[:min(len(d.Refs), maxRefsShown)] {
		text += ", " + r.Type + " " + r.Name + " " + r.Change
	}
	if more := len(d.Refs) - maxRefsShown; more > 0 {
		text += fmt.Sprintf(", and %d more refs", more)
	}
	return text
}

// routedText is what is shown of routes after a verdict.
func routedText(routes []webhook.Route) string {
	if len(routes) == 0 {
		return ", no route"
	}
	return ", " + routesText(routes)
}

// receiverOf returns the receiver and the event of a recorded input about a delivery.
func receiverOf(input []byte) (receiver, event string) {
	var d struct{ Receiver, Event string }
	_ = json.Unmarshal(input, &d) // of an input that cannot be read, both are empty
	return d.Receiver, d.Event
}

// evaluated is the result of evaluating a recorded input again.
type evaluated struct {
	policy.Decision
	routes  []webhook.Route
	failure error
}

// evaluateAgain evaluates the input of a decision, about a request or a delivery.
func evaluateAgain(ctx context.Context, r *rego.Replayer, d *audit.Decided) evaluated {
	if !rego.IsDelivery(d.Input) {
		decision, err := r.Replay(ctx, d.Input)
		return evaluated{Decision: decision, failure: err}
	}
	decision, err := r.ReplayDelivery(ctx, d.Input)
	return evaluated{asDecision(decision), decision.Routes, err}
}

// byConfiguration is the outcome for a delivery that the receiver's configured actions
// decide, because the policy has no rules about deliveries.
const byConfiguration = "configured"

// passes reports whether a request or delivery passes with an outcome.
func passes(outcome string) bool {
	return outcome == "allow" || outcome == "would deny" || outcome == byConfiguration
}

// failed reports whether the policy could not be evaluated.
func (e evaluated) failed() bool {
	return e.failure != nil && !errors.Is(e.failure, webhook.ErrNoRules)
}

// outcome is the verdict in a word, "error" if the policy could not be evaluated.
func (e evaluated) outcome() string {
	switch {
	case e.failed():
		return "error"
	case e.failure != nil:
		return byConfiguration
	}
	return outcome(e.Verdict, e.WouldDeny)
}

// sameRoutes reports whether two decisions route a delivery in the same way.
func (e evaluated) sameRoutes(o evaluated) bool {
	plain := func(routes []webhook.Route) []webhook.Route {
		routes = slices.Clone(routes)
		for i := range routes {
			routes[i].Rule = ""
		}
		slices.SortFunc(routes, func(a, b webhook.Route) int {
			return cmp.Or(cmp.Compare(a.Action, b.Action), cmp.Compare(a.Endpoint, b.Endpoint))
		})
		return routes
	}
	return slices.Equal(plain(e.routes), plain(o.routes))
}
