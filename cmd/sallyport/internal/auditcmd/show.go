package auditcmd

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
	"github.com/sallyport/sallyport/audit/recorded"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/auditdb"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/uuid"
)

func newShow() *cobra.Command {
	c := &cobra.Command{
		Use:   "show ID",
		Short: "Show a decision and its end by the id in a refusal",
		Long: `Show one decision: the request, the rule and the policy that decided, the rule's text
at that revision, the end, and the place of both events in the Merkle tree. The id is
the one in a refusal (Sallyport-Decision), in "tunnels list" and in the server's log.

  sallyport audit show 01a1fdf4-c192-7cf7-900b-49ceb24f5238

Each record is proven up to the first checkpoint that covers it. "audit verify" checks
the signature of that checkpoint, and "audit proof" prints a proof for others.
--format json has the records' fields, the proofs, and later information.`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return cli.Invalid(fmt.Errorf("which decision? Give one id\nsee: %s --help", c.CommandPath()))
			}
			return nil
		},
	}
	from := auditdb.AddFlags(c)
	asJSON := cli.AddFormatFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		id, ok := uuid.Parse(args[0])
		if !ok {
			return cli.Invalid(fmt.Errorf("%q is not a decision's id: it is a UUID such as 01a1fdf4-c192-7cf7-900b-49ceb24f5238", args[0]))
		}
		url, done, err := from.Open(c.Context())
		if err != nil {
			return err
		}
		defer done()
		found, err := auditreader.Find(c.Context(), url, id)
		if err != nil {
			return err
		}
		if len(found.Records) == 0 {
			return fmt.Errorf("the log has no decision %s; if the database was unavailable, a server's journal may have it", id)
		}
		shown := shownDecision{Found: found}
		damage := shown.lookUp(c.Context(), url)
		if shown.seals == nil {
			return damage
		}
		print := printDecision
		if asJSON() {
			print = printDecisionJSON
		}
		return errors.Join(print(c.OutOrStdout(), id, shown), damage)
	}
	return c
}

// shownDecision is what is shown: a decision, and what stands behind it.
type shownDecision struct {
	auditreader.Found
	seals  []*shownSeal // as many as records
	rules  []pack.RuleText
	noRule string // why there is no text
}

// printDecisionJSON leaves the records' fields as they are.
func printDecisionJSON(w io.Writer, _ string, found shownDecision) error {
	out := struct {
		Events      []json.RawMessage `json:"events"`
		Proofs      []*shownSeal      `json:"proofs"`
		Rules       []pack.RuleText   `json:"rule_text,omitempty"`
		NoRule      string            `json:"no_rule_text,omitempty"`
		BuildNumber int64             `json:"build_number,omitempty"`
		Creator     string            `json:"creator,omitempty"`
	}{Proofs: found.seals, Rules: found.rules, NoRule: found.noRule, BuildNumber: found.BuildNumber, Creator: found.Creator}
	for _, r := range found.Records {
		out.Events = append(out.Events, r)
	}
	return cli.PrintJSON(w, out)
}

// shownEvent is a record as it is printed. A record's strings hold no control
// characters: the writer has escaped them.
type shownEvent struct{ *recorded.Event }

// printDecision writes a decision and what closed it for people.
func printDecision(w io.Writer, id string, found shownDecision) error {
	var b strings.Builder
	allowed, closed := false, false
	for i, record := range found.Records {
		read, err := recorded.Read(record)
		if err != nil {
			return fmt.Errorf("show %s: %w: `sallyport audit verify` shows whether the log is damaged", id, err)
		}
		e := shownEvent{read}
		if i > 0 {
			b.WriteByte('\n')
		}
		if e.Kind == string(audit.KindDecision) {
			fmt.Fprintf(&b, "decision %s\n", id)
			e.printDecision(&b, found.Found, found.seals[i])
			allowed = e.Verdict == "allow"
			continue
		}
		fmt.Fprintf(&b, "end (%s)\n", e.Kind)
		e.printEnd(&b, found.seals[i])
		closed = true
	}
	if allowed && !closed {
		b.WriteString("\nno end is recorded: it is open, or its end waits in a server's journal, or its server was lost\n")
	}
	found.printRule(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

func (e shownEvent) printDecision(b *strings.Builder, found auditreader.Found, seal *shownSeal) {
	line := cli.FieldLines(b)
	line("time", e.time())
	verdict := e.Verdict
	switch {
	case e.WouldDeny:
		verdict += ", in report mode only: it would have been refused"
	case e.Mode == "report":
		verdict += ", in report mode"
	}
	line("verdict", verdict)
	e.printReason(line)
	line("status", number(int64(e.Status)))
	line("repository", named(e.Repository, e.RepositoryUUID))
	line("workspace", named(e.Workspace, e.WorkspaceUUID))
	deployment := named(e.Deployment, e.DeploymentUUID)
	if deployment != "" && e.DeploymentType != "" {
		deployment += ", " + e.DeploymentType
	}
	line("deployment", deployment)
	line("branch", e.Branch)
	pipeline := e.PipelineUUID
	if found.BuildNumber > 0 {
		pipeline = fmt.Sprintf("#%d (%s)", found.BuildNumber, e.PipelineUUID)
	}
	line("pipeline", pipeline)
	line("started by", found.Creator)
	line("step", e.StepUUID)
	line("client", strings.TrimSpace(e.ClientAddress+" on "+e.Listener))
	line("asked for", strings.TrimSpace(e.Action+" "+e.request()))
	line("as written", e.TargetRaw)
	address := e.DialedAddress
	if address == "" && e.UpstreamProxy != "" && e.Verdict == "allow" {
		address = "not known: the upstream proxy looked the name up"
	}
	line("dialed", address)
	line("upstream", e.UpstreamProxy)
	line("recorded", fmt.Sprintf("by writer %s as its number %d", e.Writer, e.WriterSequence))
	line("sealed", seal.String())
}

func (e shownEvent) printEnd(b *strings.Builder, seal *shownSeal) {
	line := cli.FieldLines(b)
	line("time", e.time())
	line("close reason", e.CloseReason)
	e.printReason(line)
	line("status", number(int64(e.Status)))
	line("target status", number(int64(e.UpstreamStatus)))
	line("sent", strconv.FormatInt(e.BytesSent, 10)+" bytes")
	line("received", strconv.FormatInt(e.BytesReceived, 10)+" bytes")
	line("duration", (time.Duration(e.Duration) * time.Microsecond).String())
	line("dialed", e.DialedAddress)
	line("recorded", fmt.Sprintf("by writer %s as its number %d", e.Writer, e.WriterSequence))
	line("sealed", seal.String())
}

// printReason writes why, by which rules of which policy. An end has it where the
// policy of the time ended it.
func (e shownEvent) printReason(line func(name, value string)) {
	line("reason", e.Reason)
	line("rule", e.Rule)
	if len(e.Rules) > 1 {
		line("all rules", strings.Join(e.Rules, ", "))
	}
	line("exceptions", strings.Join(e.Exceptions, ", "))
	line("message", e.Message)
	line("policy", e.Revision)
	line("commit", e.Commit)
	line("repository's", e.OwnRevision)
}

// time is the time of the event without trailing zeros.
func (e shownEvent) time() string {
	t, err := time.Parse(time.RFC3339Nano, e.Time)
	if err != nil {
		return e.Time
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// request is the target, and of an HTTP request its method and URL.
func (e shownEvent) request() string {
	target := e.Target()
	if target == "" || e.Method == "" {
		return target
	}
	return e.Method + " " + cmp.Or(e.Scheme, "http") + "://" + target + e.Path
}

func named(name, uuid string) string {
	if name == "" || uuid == "" {
		return cmp.Or(name, uuid)
	}
	return name + " (" + uuid + ")"
}

func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}
