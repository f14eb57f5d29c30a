package verifycmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/auditdb"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/components"
	identitypg "github.com/sallyport/sallyport/identity/postgres"
	"github.com/sallyport/sallyport/internal/printable"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego"
)

// evidenceFlags are the parameters of a pack.
type evidenceFlags struct {
	auditdb.Flags
	since, until, out, seed, signingKey *string
	repositories                        *[]string
	trusted                             trustFlags
	sample                              *int
	size                                *int64
	unsigned, quiet                     *bool
}

// NewEvidence makes `sallyport audit evidence`.
func NewEvidence() *cobra.Command {
	c := &cobra.Command{
		Use:   "evidence",
		Short: "Create an evidence pack of a period for a reviewer",
		Long: `Make a folder for the review of a period: a report, every decision with its end, the
tables of the report, a reproducible sample with inclusion proofs, and a signed
manifest of digests.

  sallyport audit evidence --since 2026-10-01 --until 2026-11-01 --out october

The pack uses the first checkpoint that covers every event of the period, and has no
event that was sealed later: made again, it has the same bytes. The log is verified up
to that checkpoint. Making a pack is recorded in the log.

A pack of a damaged log, or of one that nothing from outside vouches for, is made with
status 1, and its report has the result. --unanchored accepts a log that is not
anchored: neither a --key that signed it nor a valid --checkpoint was given.`,
		Args: cli.NoArguments,
	}
	f := evidenceFlags{Flags: auditdb.AddFlags(c)}
	f.since = c.Flags().String("since", "", "the beginning of the period: 2026-10-01, or 2026-10-01T00:00:00Z")
	f.until = c.Flags().String("until", "", "the end of the period, exclusive")
	f.out = c.Flags().StringP("out", "o", "", "`DIR` to create, which must not exist")
	f.repositories = c.Flags().StringArray("repository", nil, "a `REPOSITORY` to narrow it to, by full name or UUID; may be given again")
	f.CompleteNames(c, "repository", identitypg.NameRepository)
	f.sample = c.Flags().Int("sample", 25, "how many decisions to draw for the sample")
	f.seed = c.Flags().String("seed", "", "seed of the sample (default: the root hash of the checkpoint)")
	f.size = c.Flags().Int64("size", 0, "use the log's checkpoint of this size (default: the first that covers the period)")
	f.trusted = addTrustFlags(c, "a public `KEY` of the log, or a file with one on each line; may be given again")
	f.signingKey = c.Flags().String("signing-key", "", "`FILE` of the private key that signs the manifest (default: the one of the configuration)")
	f.unsigned = c.Flags().Bool("unsigned", false, "make a pack without a signature, if there is no key")
	asJSON := cli.AddFormatFlag(c)
	f.quiet = c.Flags().Bool("quiet", false, "show no progress")
	c.RunE = func(c *cobra.Command, _ []string) error {
		built, err := f.build(c)
		if err != nil {
			return err
		}
		result := builtResult(built, len(*f.trusted.checkpoints) > 0, *f.trusted.unanchored)
		if asJSON() {
			return printBuiltJSON(c.OutOrStdout(), *f.out, built, result)
		}
		return printBuilt(c.OutOrStdout(), *f.out, built, result)
	}
	c.AddCommand(newEvidenceCheck())
	return c
}

// parseDay reads an absolute time: one that depends on now would not give the same
// pack again.
func parseDay(flag, given string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, given); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("--%s: %q is not a time: write 2026-10-01, or 2026-10-01T00:00:00Z", flag, given)
}

func (f evidenceFlags) options(c *cobra.Command) (evidence.Options, error) {
	o := evidence.Options{
		Repositories: *f.repositories, Size: *f.size, Sample: *f.sample, Seed: *f.seed, Unsigned: *f.unsigned,
		Tool: "sallyport " + cli.Version(), Exceptions: exceptionsOf,
	}
	var err error
	if *f.out == "" {
		return o, errors.New("--out DIR is needed")
	}
	if _, err := os.Lstat(*f.out); err == nil {
		return o, fmt.Errorf("--out %s: it exists already: name a folder that does not exist", *f.out)
	}
	if o.Period.From, err = parseDay("since", *f.since); err != nil {
		return o, err
	}
	if o.Period.To, err = parseDay("until", *f.until); err != nil {
		return o, err
	}
	given, err := f.trusted.read(c.Context())
	if err != nil {
		return o, err
	}
	o.Trust = given.trust
	for _, w := range given.warnings {
		fmt.Fprintf(c.ErrOrStderr(), "warning: %s\n", w)
	}
	if o.Signer, err = f.signer(c.Context()); err != nil {
		return o, err
	}
	if p := cli.NewProgress(c.ErrOrStderr(), *f.quiet); p.Out != io.Discard {
		o.Progress = stages(p.Out)
	}
	return o, nil
}

// signer signs the manifest; nil if it is to be unsigned.
func (f evidenceFlags) signer(ctx context.Context) (*audit.Signer, error) {
	const advice = "name one with --signing-key (`sallyport audit key generate` makes one), or use --unsigned"
	switch {
	case *f.unsigned && *f.signingKey != "":
		return nil, errors.New("--unsigned and --signing-key: one of them")
	case *f.unsigned:
		return nil, nil
	case *f.signingKey != "":
		private, err := cli.ReadInput(ctx, *f.signingKey, cli.MaxSecretInput)
		if err != nil {
			return nil, fmt.Errorf("--signing-key %w", err)
		}
		signer, err := audit.ParseSigner(string(private))
		if err != nil {
			return nil, fmt.Errorf("--signing-key %s: %w", *f.signingKey, err)
		}
		return signer, nil
	case *f.URLFile != "":
		return nil, errors.New("no configuration is given that names a signing key: " + advice)
	}
	cfg, _, err := cli.LoadConfig(*f.Config)
	if err != nil {
		return nil, err
	}
	signer, err := components.Signer(cfg)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, advice)
	}
	if signer == nil {
		return nil, fmt.Errorf("there is no signing key in %s: %s", cfg.DataDirectory, advice)
	}
	return signer, nil
}

func (f evidenceFlags) build(c *cobra.Command) (*evidence.Built, error) {
	o, err := f.options(c)
	if err != nil {
		return nil, cli.Invalid(err)
	}
	url, done, err := f.Open(c.Context())
	if err != nil {
		return nil, err
	}
	defer done()
	r, err := auditreader.Open(c.Context(), url)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	r.Trust(o.Trust.Keys...)
	o.Record = func(ctx context.Context, b evidence.Built) error { return recordPack(ctx, url, b) }
	built, err := evidence.Build(c.Context(), evidenceLog{r}, *f.out, o)
	if errors.Is(err, evidence.ErrParameters) {
		err = cli.Invalid(err)
	}
	return built, err
}

// recordPack records in the log that a pack was made of it.
func recordPack(ctx context.Context, url string, b evidence.Built) error {
	querier, err := auditreader.OpenQuerier(ctx, url)
	if err != nil {
		return err
	}
	defer querier.Close()
	parameters, err := json.Marshal(b.Manifest.Parameters)
	if err != nil {
		return err
	}
	_, err = querier.RecordExport(ctx, auditreader.Export{
		What: "audit evidence", Parameters: parameters, Rows: b.Manifest.Population, Digest: b.Digest, Tool: b.Manifest.Tool,
	})
	return err
}

// exceptionsOf lists the exceptions of a policy that the log keeps.
func exceptionsOf(ctx context.Context, s *policy.Snapshot) ([]pack.Exception, error) {
	set, err := components.LoadPolicy(ctx, "the log", s, rego.Options{Names: true, Recorded: true, Prechecked: true})
	if err != nil {
		return nil, err
	}
	var list []pack.Exception
	for _, e := range set.Exceptions() {
		one := pack.Exception{Path: e.Path, Hosts: e.Hosts, Owner: e.Owner, Ticket: e.Ticket, Repository: e.Repository}
		if !e.Until.IsZero() {
			one.Until = cli.FormatTime(e.Until)
		}
		list = append(list, one)
	}
	return list, nil
}

// stages shows how far it is, now and then.
func stages(out io.Writer) func(stage string, n int64) {
	var last, began time.Time
	var before string
	return func(stage string, n int64) {
		now := time.Now()
		if stage != before {
			before, began, last = stage, now, now
			return
		}
		if now.Sub(last) < 2*time.Second {
			return
		}
		last = now
		fmt.Fprintf(out, "%s: %d, %.0f a second\n", stage, n, float64(n)/now.Sub(began).Seconds())
	}
}

// builtResult judges the log that a pack was made of.
func builtResult(b *evidence.Built, checkpoints, unanchored bool) trustResult {
	res := b.Facts.Result
	switch {
	case !res.Sound && onlyUnvouched(res.Counts):
		return resultUnvouched
	case !res.Sound:
		return resultDamaged
	case res.Anchored != nil || res.Vouched && !checkpoints:
		return resultSound
	case unanchored:
		return resultAccepted
	}
	return resultNotAnchored
}

// printBuilt prints the pack that was made, and returns an error for every status but 0.
func printBuilt(out io.Writer, dir string, b *evidence.Built, result trustResult) error {
	m, res := b.Manifest, b.Facts.Result
	var text strings.Builder
	line := func(name, format string, a ...any) {
		fmt.Fprintf(&text, "%-14s"+format+"\n", append([]any{name}, a...)...)
	}
	line("pack", "%s, %d files; read report.html first", dir, len(m.Files)+1)
	line("period", "%s until before %s", cli.FormatTimeOrNever(m.Parameters.From), cli.FormatTimeOrNever(m.Parameters.To))
	line("population", "%s", printable.Count(m.Population, "decision"))
	if m.Probes > 0 {
		line("", "%d of these are probes of self-tests", m.Probes)
	}
	line("sample", "%s, drawn with the seed %s", printable.Count(len(m.Sample), "decision"), audit.Text(m.Parameters.Seed, 100))
	line("checkpoint", "size %d, signed %s", res.Leaves, cli.FormatTimeOrNever(m.Time))
	if res.Anchored != nil {
		line("anchored", "the checkpoint from outside of size %d is valid", res.Anchored.Size)
	} else {
		line("not anchored", "no valid checkpoint from outside was given (--checkpoint)")
	}
	line("signature", "%s", m.Signature)
	line("manifest", "SHA-256 %x", b.Digest)
	switch result {
	case resultDamaged, resultUnvouched:
		line("result", "DAMAGED")
		for i, f := range res.Findings {
			if i == shownFindings {
				line("", "…")
				break
			}
			line("", "%s", f)
		}
	case resultSound, resultAccepted:
		line("result", "sound: nothing was changed, removed or inserted")
	case resultNotAnchored:
		line("result", "%s", unanchoredResult)
		line("", "the pack was made. Give --key or --checkpoint; --unanchored accepts this")
	}
	if _, err := io.WriteString(out, text.String()); err != nil {
		return err
	}
	return result.err()
}
