package policycmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/auditdb"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/components"
	"github.com/sallyport/sallyport/internal/selftest"
	"github.com/sallyport/sallyport/internal/uuid"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/webhook"
)

// historyFlags select past decisions: those of a log, or of an export of one.
type historyFlags struct {
	auditdb.Flags
	export, since, until *string
}

// addHistoryFlags adds the flags of a command that reads decisions again. Without
// a default for since the command reads single ones.
func addHistoryFlags(c *cobra.Command, since string) historyFlags {
	h := historyFlags{Flags: auditdb.AddFlags(c)}
	h.export = c.Flags().String("export", "", "read this `FILE` instead of a database: what `sallyport audit export` wrote; - is standard input")
	if since != "" {
		h.since = c.Flags().String("since", since, "from when on: `30d` or 12h ago, 2026-11-21, or 2026-11-21T08:40:00Z")
		h.until = c.Flags().String("until", "now", "before when, written in the same way")
	}
	return h
}

// history reads past decisions.
type history struct {
	since, until time.Time
	database     *auditreader.History // nil: an export
	url          string               // of the database
	export       io.Reader
	name         string // of the export
	deliveries   bool   // decisions about webhook deliveries are meant too
	done         func()
	progress     *cli.Progress
}

func (f historyFlags) open(c *cobra.Command) (*history, error) {
	h := &history{done: func() {}, progress: cli.NewProgress(c.ErrOrStderr(), false)}
	if f.since != nil {
		now := time.Now()
		var err error
		if h.since, err = cli.ParseTime(*f.since, now); err != nil {
			return nil, cli.Invalid(fmt.Errorf("--since: %w", err))
		}
		if h.until, err = cli.ParseTime(*f.until, now); err != nil {
			return nil, cli.Invalid(fmt.Errorf("--until: %w", err))
		}
		if !h.since.Before(h.until) {
			return nil, cli.Invalid(fmt.Errorf("--since %s is not before --until %s: nothing is between them", *f.since, *f.until))
		}
	}
	switch {
	case *f.export != "" && (*f.URLFile != "" || *f.Config != ""):
		return nil, cli.Invalid(errors.New("--export is read instead of a database: leave out -c and --database-url-file"))
	case *f.export == "-":
		stream := cli.Interruptible(c.Context(), c.InOrStdin())
		h.export, h.name, h.done = stream, "-", func() { _ = stream.Close() }
		return h, nil
	case *f.export != "":
		file, err := cli.OpenStream(c.Context(), *f.export)
		if err != nil {
			return nil, cli.Invalid(fmt.Errorf("--export %w", err))
		}
		stream := cli.Interruptible(c.Context(), file)
		h.export, h.name, h.done = stream, *f.export, func() { _, _ = stream.Close(), file.Close() }
		return h, nil
	}
	url, done, err := f.Flags.Open(c.Context())
	if err != nil {
		return nil, err
	}
	h.url = url
	if h.database, err = auditreader.OpenHistory(c.Context(), url); err != nil {
		done()
		return nil, err
	}
	h.done = func() { h.database.Close(); done() }
	return h, nil
}

func (h *history) close() { h.done() }

// records gives the records of the decisions of that time. What f is given holds
// until it returns.
func (h *history) records(ctx context.Context, take func(record []byte) error) error {
	var n int64
	f := func(record []byte) error {
		n++
		h.progress.Show(n)
		return take(record)
	}
	if h.database != nil {
		err := h.database.Decisions(ctx, h.since, h.until, f)
		if err == nil && h.deliveries {
			err = h.database.Deliveries(ctx, h.since, h.until, f)
		}
		return err
	}
	var ours error
	err := audit.EachRecord(h.export, func(record []byte) error {
		if ours = ctx.Err(); ours == nil {
			ours = f(record)
		}
		return ours
	})
	if err != nil && ours == nil {
		err = cli.Invalid(fmt.Errorf("--export %s: %w", h.name, err))
	}
	return err
}

// decisions gives the decisions of that time.
func (h *history) decisions(ctx context.Context, f func(d *audit.Decided) error) error {
	return h.records(ctx, func(record []byte) error {
		d, ok, err := h.decided(record)
		if err != nil || !ok {
			return err
		}
		return f(&d)
	})
}

// outcomes gives the decisions of that time, and of those whose tunnel did not begin
// as its rule demands the close reason.
func (h *history) outcomes(ctx context.Context, f func(d *audit.Decided) error, closed func(decisionID, closeReason string) error) error {
	reasons := slices.DeleteFunc(proxy.ForcedCauses(), func(reason string) bool { return !strings.HasPrefix(reason, "hello_") })
	err := h.records(ctx, func(record []byte) error {
		if id, reason, ok := audit.ReadClosed(record); ok {
			if !slices.Contains(reasons, reason) {
				return nil
			}
			return closed(id, reason)
		}
		d, ok, err := h.decided(record)
		if err != nil || !ok {
			return err
		}
		return f(&d)
	})
	if err != nil || h.database == nil {
		return err
	}
	return h.database.Closes(ctx, h.since, h.until, reasons, closed)
}

// continued gives the decisions of that time, and the tunnels that only report mode let
// continue.
func (h *history) continued(ctx context.Context, f func(d *audit.Decided) error, continued func(c *audit.Continued) error) error {
	read := func(record []byte) error {
		c, ok, err := audit.ReadContinued(record)
		if err != nil {
			return err
		}
		if ok {
			if c.CredentialKind == selftest.Kind || selftest.IsReserved(c.Host) || c.Time.Before(h.since) || !c.Time.Before(h.until) {
				return nil
			}
			return continued(&c)
		}
		d, ok, err := h.decided(record)
		if err != nil || !ok {
			return err
		}
		return f(&d)
	}
	if err := h.records(ctx, read); err != nil || h.database == nil {
		return err
	}
	return h.database.Continued(ctx, h.since, h.until, read)
}

// decided reads a record; ok is false where it is none of the decisions meant.
func (h *history) decided(record []byte) (d audit.Decided, ok bool, err error) {
	d, ok, err = audit.ReadDecided(record)
	if d.Kind == audit.KindWebhookReceived && !h.deliveries {
		return d, false, nil
	}
	// A self-test probe is not a step's request, and the policy does not decide who reaches its names.
	if err != nil || !ok || d.CredentialKind == selftest.Kind || selftest.IsReserved(d.Host) {
		return d, false, err
	}
	// A database has already chosen.
	return d, h.database != nil || !d.Time.Before(h.since) && d.Time.Before(h.until), nil
}

// decision finds one decision.
func (h *history) decision(ctx context.Context, id string) (*audit.Decided, error) {
	var record []byte
	var err error
	if h.database != nil {
		record, err = h.database.Decision(ctx, id)
	} else {
		found := errors.New("found")
		err = audit.EachRecord(h.export, func(r []byte) error {
			if d, ok, _ := audit.ReadDecided(r); ok && d.ID == id {
				record = bytes.Clone(r)
				return found
			}
			return ctx.Err()
		})
		if errors.Is(err, found) {
			err = nil
		} else if err != nil {
			err = cli.Invalid(fmt.Errorf("--export %s: %w", h.name, err))
		}
	}
	if err != nil {
		return nil, err
	}
	if record == nil {
		return nil, fmt.Errorf("the log has no decision %s; if the database was unavailable, a server's journal may have it", id)
	}
	d, ok, err := audit.ReadDecided(record)
	if err == nil && !ok {
		err = fmt.Errorf("%s is not a decision", id)
	}
	return &d, err
}

// snapshot is the policy of a decision, as the log has kept it.
func (h *history) snapshot(ctx context.Context, digest, commit string) (*policy.Snapshot, error) {
	if h.database == nil {
		return nil, errors.New("an export holds no policies: name the policy's directory at that revision with --policy DIR, or read the database")
	}
	content, err := h.database.Policy(ctx, digest)
	if err != nil {
		return nil, err
	}
	s, err := policy.ParseContent(content, commit)
	if err != nil {
		return nil, err
	}
	if s.Digest != digest {
		return nil, fmt.Errorf("what the log holds as policy %s is another one, %s: it was changed", digest, s.Digest)
	}
	return s, nil
}

// decidedBy loads the policy that made a decision: of its revision, with the
// repository's rules of another one where the decision names it. It passed all checks
// when it became active, of an older version of this program perhaps; a repository
// that failed them is denied.
func (h *history) decidedBy(ctx context.Context, d *audit.Decided) (*rego.Set, error) {
	options := rego.Options{Names: hasNames(d.Input), Recorded: true, Prechecked: true, OnFailure: rego.DenyRepository}
	load := func(digest, commit string) (*rego.Set, error) {
		snapshot, err := h.snapshot(ctx, digest, commit)
		if err != nil {
			return nil, err
		}
		if rego.IsDelivery(d.Input) {
			options.Names = !foldersAreUUIDs(snapshot)
		}
		return components.LoadPolicy(ctx, "the log", snapshot, options)
	}
	set, err := load(d.Revision, d.Commit)
	if err != nil || d.RepositoryRevision == "" {
		return set, err
	}
	other, err := load(d.RepositoryRevision, "")
	if err != nil {
		return nil, err
	}
	name := repositoryOf(d)
	if rego.IsDelivery(d.Input) {
		if name, err = other.RepositoryOfDelivery(d.Input); err != nil {
			return nil, err
		}
	}
	return set.WithRepository(name, other)
}

// foldersAreUUIDs reports whether a policy was written for a server that knows no names: a
// delivery does not show whether its server did.
func foldersAreUUIDs(s *policy.Snapshot) bool {
	return slices.ContainsFunc(s.Files, func(f policy.File) bool {
		parts := strings.Split(f.Path, "/")
		return len(parts) > 3 && parts[0] == "repositories" && uuid.IsCanonical(parts[1]) && uuid.IsCanonical(parts[2])
	})
}

// repositoryOf is the name under which policy knows the repository of a decision.
func repositoryOf(d *audit.Decided) string {
	if hasNames(d.Input) {
		return d.Repository
	}
	return d.WorkspaceUUID + "/" + d.RepositoryUUID
}

// hasNames reports whether an input was made by a server that knew names.
func hasNames(input []byte) bool {
	if rego.IsDelivery(input) {
		return true // each delivery has them: see foldersAreUUIDs
	}
	p, err := principalOf(input)
	return err != nil || p.Repository.FullName != "" || p.Workspace.Slug != ""
}

// recordedOutcome returns the policy's decision at the time, as far as the record has it. If
// the request was refused after the policy had allowed it, the record does not have
// whether the allow was in report mode only: known is false then.
func recordedOutcome(d *audit.Decided) (outcome string, known bool) {
	switch policy.Reason(d.Reason) {
	case policy.PolicyAllowed, policy.PolicyDenied, policy.NoRuleMatched:
		if d.Verdict != "allow" {
			return "deny", true
		}
		if d.WouldDeny {
			return "would deny", true
		}
		return "allow", true
	case policy.PolicyError:
		return "deny", true
	case webhook.Configured:
		return byConfiguration, true
	}
	return "allow", d.Mode != "report"
}

// mayBeDenied reports whether policy may have denied a request although its reason is that
// of a limit: so are the requests of a step that is refused too often.
func mayBeDenied(d *audit.Decided) bool {
	return d.Reason == string(policy.StepLimit) || d.Reason == string(policy.RepositoryLimit)
}
