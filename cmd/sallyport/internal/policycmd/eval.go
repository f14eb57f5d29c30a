package policycmd

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego"
)

func newPolicyEval() *cobra.Command {
	c := &cobra.Command{
		Use:   "eval DIR --as repository=NAME[,deployment=NAME…] --to HOST[:PORT] | --delivery FILE --event KEY --receiver NAME",
		Short: "Evaluate a policy for one request or webhook delivery",
		Long: `Evaluate the policy in DIR for one request of a principal, as a server would. With
--explain, the output has for every rule whether it matched and, if it did not, the
first condition that did not hold and what that condition read.

  sallyport policy eval . --as repository=acme/payments,deployment=production --to api.partner.example
  sallyport policy eval . --as repository=acme/website,branch=main --to deb.example --method GET --path /dists --explain

With --delivery it evaluates the rules about webhook deliveries, package
sallyport.webhook, for a file with the body that Bitbucket sends.

  sallyport policy eval . --delivery push.json --event repo:push --receiver builds --explain

--as takes ` + strings.Join(PrincipalKeys, ", ") + `.
A deployment called test, staging or production is of that type unless
deployment_type has another value. What is not given is not in the input; UUIDs that
are not given are zero. With --method, --path or --header it is an HTTP request
that can be read, and otherwise a CONNECT.

Without --expect the verdict does not change the exit status.`,
		Args: oneDirectory,
	}
	as := c.Flags().String("as", "", "who asks: `KEY=VALUE,…`")
	var flags requestFlags
	c.Flags().StringVar(&flags.to, "to", "", "where to: `HOST[:PORT]`; without a port 443, or 80 for an HTTP request")
	c.Flags().StringVar(&flags.method, "method", "", "the `METHOD` of an HTTP request")
	c.Flags().StringVar(&flags.path, "path", "", "the `PATH` of an HTTP request")
	c.Flags().StringArrayVar(&flags.headers, "header", nil, "a header of an HTTP request: `NAME=VALUE`")
	delivery := addDeliveryFlags(c)
	at := c.Flags().String("at", "now", "the `TIME` of the decision: now, 2026-11-21T08:40:00Z, 2026-11-21, or 30d for so long ago")
	withoutNames := c.Flags().Bool("without-names", false, withoutNamesUsage)
	explain := c.Flags().Bool("explain", false, "report for every rule why it matched or did not")
	asJSON := cli.AddFormatFlag(c)
	expect := cli.AddChoiceFlag(c, "expect", "fail unless the verdict is this", "", "allow", "deny")
	c.RunE = func(c *cobra.Command, args []string) error {
		now, err := cli.ParseTime(*at, time.Now())
		if err != nil {
			return cli.Invalid(fmt.Errorf("--at: %w", err))
		}
		if delivery := delivery(); delivery.file != "" {
			if *as != "" || flags.to != "" {
				return cli.Invalid(errors.New("--delivery evaluates a delivery and --as and --to a request: give one of them"))
			}
			evaluate := deliveryEvaluation{delivery, now, !*withoutNames, *explain, asJSON(), expect.Value}
			return evaluate.run(c, args[0])
		}
		principal, err := parsePrincipal(*as)
		if err != nil {
			return cli.Invalid(err)
		}
		request, err := flags.request(principal, now)
		if err != nil {
			return cli.Invalid(err)
		}
		set, err := loadTree(c.Context(), args[0], !*withoutNames)
		if err != nil {
			return err
		}
		d, err := set.Decide(c.Context(), request)
		if err != nil {
			return evaluationFailed(err)
		}
		x := &rego.Explanation{Decision: d}
		if *explain {
			if x, err = set.Explain(c.Context(), d.Input); err != nil {
				return evaluationFailed(err)
			}
		}
		if asJSON() {
			err = cli.PrintJSON(c.OutOrStdout(), explanationJSON(x))
		} else {
			err = printExplanation(c.OutOrStdout(), x)
		}
		return cmp.Or(err, expected(expect.Value, d.Verdict))
	}
	return c
}

// expected is an error if a verdict is not the expected one; an empty one expects nothing.
func expected(want string, verdict policy.Verdict) error {
	if want != "" && want != verdict.String() {
		return fmt.Errorf("the verdict is %s, and not %s as expected", verdict, want)
	}
	return nil
}

// evaluationFailed returns an error that names the key to give where a name is not known.
func evaluationFailed(err error) error {
	for path, key := range map[string]string{
		"principal.repository.project": "project", "principal.deployment.type": "deployment_type",
		"principal.repository.full_name": "repository", "principal.workspace.slug": "workspace", "principal.deployment.slug": "deployment", "principal.deployment.name": "deployment",
	} {
		if strings.Contains(err.Error(), "reads input."+path+",") {
			return fmt.Errorf("a server would refuse this (policy_error): %w; give %s=… in --as", err, key)
		}
	}
	return fmt.Errorf("a server would refuse this (policy_error): %w", err)
}

// outcome is a verdict in a word, report mode included.
func outcome(verdict policy.Verdict, wouldDeny bool) string {
	switch {
	case verdict != policy.Allow:
		return "deny"
	case wouldDeny:
		return "would deny"
	}
	return "allow"
}

// protocolText is what a tunnel must start with, with the relaxations of the ClientHello.
func protocolText(d policy.Decision) string {
	text := d.Protocol.String()
	if d.ECH {
		text += ", ech: true"
	}
	if d.NoSNI {
		text += ", no_sni: true"
	}
	return text
}

// printDecided writes a decision for people.
func printDecided(b *strings.Builder, d policy.Decision) {
	printVerdict(b, d)
	line := cli.FieldLines(b)
	if d.Verdict == policy.Allow {
		line("protocol", protocolText(d))
		line("limits", limitsText(d.Limits))
		if !d.Expires.IsZero() {
			line("expires", d.Expires.Format(time.RFC3339))
		}
	}
	printRevision(b, d)
}

func printVerdict(b *strings.Builder, d policy.Decision) {
	line := cli.FieldLines(b)
	verdict := d.Verdict.String()
	switch {
	case d.WouldDeny:
		verdict += ", in report mode only: it would be refused"
	case d.Mode == policy.Report:
		verdict += ", in report mode"
	}
	line("verdict", verdict)
	line("reason", string(d.Reason))
	line("rule", d.Rule)
	if len(d.Rules) > 1 {
		line("all rules", strings.Join(d.Rules, ", "))
	}
	line("exceptions", strings.Join(placesOf(d.Exceptions), ", "))
	line("message", d.Message)
}

func printRevision(b *strings.Builder, d policy.Decision) {
	line := cli.FieldLines(b)
	line("policy", d.Revision.Digest)
	line("commit", d.Revision.Commit)
	line("repository's", d.RepositoryRevision.Digest)
}

func limitsText(l policy.Limits) string {
	var parts []string
	if l.Lifetime > 0 {
		parts = append(parts, "lifetime "+l.Lifetime.String())
	}
	if l.Idle > 0 {
		parts = append(parts, "idle "+l.Idle.String())
	}
	if l.Sent > 0 {
		parts = append(parts, fmt.Sprintf("sent %d bytes", l.Sent))
	}
	if l.Received > 0 {
		parts = append(parts, fmt.Sprintf("received %d bytes", l.Received))
	}
	if l.StepSent > 0 {
		parts = append(parts, fmt.Sprintf("sent by the step %d bytes", l.StepSent))
	}
	if l.StepReceived > 0 {
		parts = append(parts, fmt.Sprintf("received by the step %d bytes", l.StepReceived))
	}
	return strings.Join(parts, ", ")
}

// printExplanation writes a decision and, where they are known, its rules.
func printExplanation(w io.Writer, x *rego.Explanation) error {
	var b strings.Builder
	printDecided(&b, x.Decision)
	printRules(&b, x.Rules)
	_, err := io.WriteString(w, b.String())
	return err
}

func printRules(b *strings.Builder, rules []rego.Explained) {
	for _, matched := range []bool{true, false} {
		title := "\nmatched\n"
		if !matched {
			title = "\ndid not match, and the first condition that did not hold\n"
		}
		for _, r := range rules {
			if r.Matched != matched {
				continue
			}
			b.WriteString(title)
			title = ""
			fmt.Fprintf(b, "  %s %s  %s:%d\n", r.Set, r.Rule, r.File, r.Line)
			if r.Ignored != "" {
				fmt.Fprintf(b, "    does not count: %s\n", r.Ignored)
			}
			printCondition(b, r.Failed)
		}
	}
}

func printCondition(b *strings.Builder, c *rego.Condition) {
	if c == nil {
		return
	}
	fmt.Fprintf(b, "    %s:%d: %s\n", c.File, c.Line, c.Text)
	for _, v := range c.Read {
		if v.Absent {
			fmt.Fprintf(b, "      %s is absent\n", v.Path)
		} else {
			fmt.Fprintf(b, "      %s is %s\n", v.Path, v.Value)
		}
	}
}

// decidedJSON is a decision under the words of the log.
type decidedJSON struct {
	Verdict   string   `json:"verdict"`
	Mode      string   `json:"mode"`
	WouldDeny bool     `json:"would_deny"`
	Reason    string   `json:"reason"`
	Rule      string   `json:"rule,omitempty"`
	Rules     []string `json:"rules,omitempty"`
	// Exceptions are the places of those that applied.
	Exceptions []string `json:"exceptions,omitempty"`
	Message    string   `json:"message,omitempty"`
	Protocol   string   `json:"protocol,omitempty"`
	ECH        bool     `json:"ech,omitempty"`
	NoSNI      bool     `json:"no_sni,omitempty"`
	Limits     string   `json:"limits,omitempty"`
	Expires    string   `json:"expires,omitempty"`
	Revision   string   `json:"revision"`
	Commit     string   `json:"commit,omitempty"`
	// RepositoryRevision is the earlier revision whose rules of the repository took part.
	RepositoryRevision string `json:"repository_revision,omitempty"`
}

func decisionJSON(d policy.Decision) decidedJSON {
	j := decidedJSON{
		Verdict: d.Verdict.String(), Mode: d.Mode.String(), WouldDeny: d.WouldDeny, Reason: string(d.Reason),
		Rule: d.Rule, Rules: d.Rules, Exceptions: placesOf(d.Exceptions), Message: d.Message, Revision: d.Revision.Digest, Commit: d.Revision.Commit, RepositoryRevision: d.RepositoryRevision.Digest,
	}
	if d.Verdict == policy.Allow {
		j.Protocol, j.Limits = d.Protocol.String(), limitsText(d.Limits)
		j.ECH, j.NoSNI = d.ECH, d.NoSNI
	}
	if !d.Expires.IsZero() {
		j.Expires = d.Expires.Format(time.RFC3339)
	}
	return j
}

type explainedJSON struct {
	Decision decidedJSON `json:"decision"`
	Rules    []ruleJSON  `json:"rules,omitempty"`
}

type ruleJSON struct {
	Set        string         `json:"set"`
	Rule       string         `json:"rule"`
	Repository string         `json:"repository,omitempty"`
	File       string         `json:"file"`
	Line       int            `json:"line"`
	Matched    bool           `json:"matched"`
	Ignored    string         `json:"ignored,omitempty"`
	Failed     *conditionJSON `json:"failed,omitempty"`
}

type conditionJSON struct {
	File string            `json:"file"`
	Line int               `json:"line"`
	Text string            `json:"text"`
	Read map[string]string `json:"read,omitempty"` // as JSON; empty: absent
}

func explanationJSON(x *rego.Explanation) explainedJSON {
	return explainedJSON{Decision: decisionJSON(x.Decision), Rules: rulesJSON(x.Rules)}
}

func rulesJSON(rules []rego.Explained) (list []ruleJSON) {
	for _, r := range rules {
		j := ruleJSON{Set: r.Set, Rule: r.Rule, Repository: r.Repository, File: r.File, Line: r.Line, Matched: r.Matched, Ignored: r.Ignored}
		if f := r.Failed; f != nil {
			j.Failed = &conditionJSON{File: f.File, Line: f.Line, Text: f.Text}
			for _, v := range f.Read {
				if j.Failed.Read == nil {
					j.Failed.Read = map[string]string{}
				}
				j.Failed.Read[v.Path] = v.Value
			}
		}
		list = append(list, j)
	}
	return list
}

// placesOf are the places of exceptions in the policy's documents.
func placesOf(list []policy.AppliedException) (places []string) {
	for _, e := range list {
		places = append(places, e.Path)
	}
	return places
}
