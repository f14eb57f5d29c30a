package auditcmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/auditdb"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	identitypg "github.com/sallyport/sallyport/identity/postgres"
	"github.com/sallyport/sallyport/internal/uuid"
)

// filterFlags select events.
type filterFlags struct {
	since                                  *string
	kinds, verdicts, modes, reasons, rules *[]string
	workspaces, repositories, deployments  *[]string
	hosts, clients, revisions              *[]string
	steps, pipelines, decisions, writers   *[]string
	ports                                  *[]int32
	builds                                 *[]int64
	wouldDeny, selfTests                   *bool
	webhooks                               webhookFlags
	flagged                                func(name string) bool
}

// addFilterFlags adds the filters. Without a default for since, there is none.
func addFilterFlags(c *cobra.Command, from auditdb.Flags, since string) *filterFlags {
	list := func(name, usage string) *[]string { return c.Flags().StringSlice(name, nil, usage) }
	f := &filterFlags{
		since:        c.Flags().String("since", since, "from when on: `30d` or 12h ago, 2026-11-21, or 2026-11-21T08:40:00Z"),
		kinds:        list("kind", "the `KIND` of event, such as decision"),
		verdicts:     list("verdict", "allow or deny"),
		modes:        list("mode", "enforce or report"),
		reasons:      list("decision-reason", "the `REASON` of the decision, such as no_rule_matched"),
		rules:        list("rule", "a rule that matched, by its `ID`"),
		workspaces:   list("workspace", "the slug of the workspace at that moment, or its `UUID`"),
		repositories: list("repository", "the repository as it was called at that moment (workspace/name), or its `UUID`"),
		deployments:  list("deployment", "the slug of the deployment environment at that moment, or its `UUID`"),
		hosts:        list("host", "the `HOST`; *.partner.example is every host below partner.example"),
		ports:        c.Flags().Int32Slice("port", nil, "the port of the target"),
		clients:      list("client", "the client's `ADDRESS`, or a network such as 10.1.0.0/16"),
		revisions:    list("revision", "the digest of the policy or its commit, or how it `BEGINS`"),
		steps:        list("step", "the step's `UUID`"),
		pipelines:    list("pipeline", "the pipeline's `UUID`"),
		builds:       c.Flags().Int64Slice("build", nil, "the build number of the pipeline, as far as it is known"),
		decisions:    list("decision", "the decision's `ID`"),
		writers:      list("writer", "the `WRITER` of the event"),
		wouldDeny:    c.Flags().Bool("would-deny", false, "whether it passed only because of report mode"),
		selfTests:    c.Flags().Bool("self-tests", false, "include the probes of the self-test, which are left out otherwise"),
		flagged:      func(name string) bool { return c.Flags().Changed(name) },
	}
	f.webhooks = addWebhookFlags(c, from)
	cli.Complete(c, "kind", KindNames()...)
	cli.Complete(c, "verdict", "allow", "deny")
	cli.Complete(c, "mode", "enforce", "report")
	cli.Complete(c, "decision-reason", ReasonNames...)
	from.CompleteNames(c, "repository", identitypg.NameRepository)
	from.CompleteNames(c, "workspace", identitypg.NameWorkspace)
	from.CompleteNames(c, "deployment", identitypg.NameDeployment)
	from.CompleteNames(c, "writer", identitypg.NameWriter)
	return f
}

// filter checks the flags and returns their filter. Times that are so long ago are counted from now.
func (f *filterFlags) filter(now time.Time) (*auditreader.Filter, error) {
	q := &auditreader.Filter{
		Kinds: *f.kinds, Verdicts: *f.verdicts, Modes: *f.modes, Reasons: *f.reasons, Rules: *f.rules,
		Workspaces: *f.workspaces, Repositories: *f.repositories, Deployments: *f.deployments,
		Ports: *f.ports, Builds: *f.builds, Revisions: *f.revisions, Writers: *f.writers,
	}
	if f.flagged("would-deny") {
		q.WouldDeny = f.wouldDeny
	}
	// Who names a decision asks for it, whatever it is about.
	q.ExcludeSelfTests = !*f.selfTests && len(*f.decisions) == 0
	var problems []error
	problem := func(err error) { problems = append(problems, err) }
	if *f.since != "" {
		at, err := cli.ParseTime(*f.since, now)
		if err != nil {
			problem(fmt.Errorf("--since: %w", err))
		}
		q.Since = at
	}
	for _, words := range []struct {
		flag  string
		given []string
		known []string
	}{{"--kind", q.Kinds, KindNames()}, {"--verdict", q.Verdicts, []string{"allow", "deny"}}, {"--mode", q.Modes, []string{"enforce", "report"}}, {"--decision-reason", q.Reasons, ReasonNames}} {
		for _, word := range words.given {
			problem(cli.OneOf(words.flag, word, words.known))
		}
	}
	for _, names := range [][]string{q.Workspaces, q.Repositories, q.Deployments} {
		for i, name := range names {
			if uuid, ok := uuid.Parse(name); ok {
				names[i] = uuid
			}
		}
	}
	q.Steps, q.Pipelines, q.Decisions = f.uuids("--step", *f.steps, problem), f.uuids("--pipeline", *f.pipelines, problem), f.uuids("--decision", *f.decisions, problem)
	f.webhooks.set(q, f, problem)
	for _, host := range *f.hosts {
		pattern, err := hostPattern(host)
		problem(err)
		q.Hosts = append(q.Hosts, pattern)
	}
	for _, client := range *f.clients {
		network, err := parseNetwork(client)
		problem(err)
		q.Clients = append(q.Clients, network)
	}
	for _, revision := range q.Revisions {
		if len(strings.TrimPrefix(revision, "sha256:")) < 4 {
			problem(fmt.Errorf("--revision %q: give at least four characters of it", revision))
		}
	}
	return q, errors.Join(problems...)
}

// between sets the end of the period.
func (f *filterFlags) between(q *auditreader.Filter, until string, now time.Time) error {
	at, err := cli.ParseTime(until, now)
	if err != nil {
		return fmt.Errorf("--until: %w", err)
	}
	if q.Until = at; !q.Since.Before(at) {
		return fmt.Errorf("--since %s is not before --until %s: nothing is between them", *f.since, until)
	}
	return nil
}

func (f *filterFlags) uuids(flag string, given []string, problem func(error)) []string {
	var list []string
	for _, text := range given {
		uuid, ok := uuid.Parse(text)
		if !ok {
			problem(fmt.Errorf("%s %q is not a UUID such as 01a1fdf4-c192-7cf7-900b-49ceb24f5238", flag, text))
		}
		list = append(list, uuid)
	}
	return list
}

// hostPattern takes a host or *.suffix: whole labels, as in policy.
func hostPattern(given string) (string, error) {
	host := strings.TrimSuffix(strings.ToLower(given), ".")
	suffix, wild := strings.CutPrefix(host, "*.")
	if !wild {
		suffix = host
	}
	if suffix == "" || strings.Contains(suffix, "*") || wild && strings.HasPrefix(suffix, ".") {
		return "", fmt.Errorf("--host %q: write a host, or *.partner.example for every host below partner.example", given)
	}
	return host, nil
}

func parseNetwork(given string) (netip.Prefix, error) {
	if address, err := netip.ParseAddr(given); err == nil && address.Zone() == "" {
		address = address.Unmap()
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	network, err := netip.ParsePrefix(given)
	if err != nil {
		return network, fmt.Errorf("--client %q: write an address such as 10.1.2.3, or a network such as 10.1.0.0/16", given)
	}
	return network.Masked(), nil
}

// parameters are the query for the record, complete enough to repeat the query.
func (q *query) parameters() []byte {
	given := map[string]any{
		"since": q.filter.Since.UTC().Format(time.RFC3339Nano), "until": q.filter.Until.UTC().Format(time.RFC3339Nano),
		"order": "newest", "format": q.format, "columns": q.filter.Columns,
	}
	if q.filter.Oldest {
		given["order"] = "oldest"
	}
	if len(q.filter.Columns) == 0 {
		given["columns"] = auditreader.Columns(false)
	}
	if q.filter.Limit > 0 {
		given["limit"] = q.filter.Limit
	}
	if q.filter.WouldDeny != nil {
		given["would_deny"] = *q.filter.WouldDeny
	}
	if q.filter.ExcludeSelfTests {
		given["self_tests"] = "excluded"
	}
	if len(q.filter.Ports) > 0 {
		given["port"] = q.filter.Ports
	}
	if len(q.filter.Builds) > 0 {
		given["build"] = q.filter.Builds
	}
	if len(q.filter.Clients) > 0 {
		given["client"] = q.filter.Clients
	}
	for name, values := range map[string][]string{
		"kind": q.filter.Kinds, "verdict": q.filter.Verdicts, "mode": q.filter.Modes, "reason": q.filter.Reasons, "rule": q.filter.Rules,
		"workspace": q.filter.Workspaces, "repository": q.filter.Repositories, "deployment": q.filter.Deployments, "host": q.filter.Hosts,
		"revision": q.filter.Revisions, "step": q.filter.Steps, "pipeline": q.filter.Pipelines, "decision": q.filter.Decisions, "writer": q.filter.Writers,
		"receiver": q.filter.Receivers, "event": q.filter.EventKeys, "endpoint": q.filter.Endpoints, "delivery": q.filter.Deliveries,
	} {
		if len(values) > 0 {
			given[name] = values
		}
	}
	text, err := json.Marshal(given) // its keys are in the order of their names
	if err != nil {
		return []byte("{}") // strings and numbers cannot fail
	}
	return text
}
