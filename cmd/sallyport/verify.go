package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
	auditlog "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/internal/config"
)

func newVerify() *cobra.Command {
	c := &cobra.Command{
		Use:   "verify",
		Short: "Prove that nothing in the audit log was changed or taken away",
		Long: `Read the whole audit log, or an export of it, and hold every event against the
Merkle tree and every tree against its signed checkpoint.

With --checkpoint, a file of checkpoints that were published outside of the
database, the log is held against these: then a tail that was cut off, an older
backup, and a log that was rewritten as a whole are found too. With --key the
log has to be signed by this key, or by one that it handed over to, or one that
handed over to it.

Events that were sealed long after their own time are listed as late, with the
checkpoint that first covers them: somebody backdated them, their writer's clock
was behind, or they were in a journal. That is not damage.

The status is 0 where nothing was found, 1 where the log is damaged, and 2 where
it could not be read.`,
		Args: noArguments,
	}
	from := addLogFlags(c)
	export := c.Flags().String("export", "", "verify this export and no database; - is standard input")
	checkpoints := c.Flags().StringArray("checkpoint", nil, "`FILE` of checkpoints from outside the database; may be given again")
	keys := c.Flags().StringArray("key", nil, "a public `KEY` of the log, or a file with one on each line; may be given again")
	quiet := c.Flags().Bool("quiet", false, "show no progress")
	maxLateness := addMaxLateness(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		trust, err := readTrust(*keys, *checkpoints)
		if err == nil {
			err = checkMaxLateness(*maxLateness)
		}
		if err != nil {
			return invalid{err}
		}
		trust.MaxLateness = *maxLateness
		p := &progress{out: c.ErrOrStderr(), began: time.Now()}
		if *quiet {
			p.out = io.Discard
		}
		var report *audit.Report
		if *export != "" {
			report, err = verifyExport(c, *export, trust, p)
		} else {
			report, err = verifyDatabase(c.Context(), from, trust, p)
		}
		if err != nil {
			return invalid{err} // not 1, which says that the log is damaged
		}
		return tell(c.OutOrStdout(), report, trust, time.Since(p.began))
	}
	return c
}

// logFlags say which database to read.
type logFlags struct {
	config *string
	url    *string
}

func addLogFlags(c *cobra.Command) logFlags {
	return logFlags{
		config: addConfigFlag(c),
		url:    c.Flags().String("database-url-file", "", "`FILE` with the connection string of a login that may read the log; no configuration is read then"),
	}
}

// open returns the connection string of the log, as an auditor where that is for
// us to choose. done ends what was started for it.
func (f logFlags) open(ctx context.Context) (url string, done func(), err error) {
	done = func() {}
	if *f.url != "" {
		raw, err := os.ReadFile(*f.url)
		if err != nil {
			return "", done, err
		}
		return strings.TrimSpace(string(raw)), done, nil
	}
	cfg, _, err := loadConfig(*f.config)
	if err != nil {
		return "", done, err
	}
	return logDatabase(ctx, cfg, psqlRoles["auditor"])
}

// logDatabase is psqlDatabase for our own connections.
func logDatabase(ctx context.Context, cfg *config.Config, role string) (url string, done func(), err error) {
	if !cfg.Audit.Embedded {
		url, err = cfg.Audit.Database.Read()
		return url, func() {}, err
	}
	url, _, done, err = psqlDatabase(ctx, cfg, role)
	return url, done, err
}

func readTrust(keys, checkpoints []string) (audit.Trust, error) {
	var trust audit.Trust
	for _, given := range keys {
		list, err := readKeys(given)
		if err != nil {
			return trust, fmt.Errorf("--key %s: %w", given, err)
		}
		trust.Keys = append(trust.Keys, list...)
	}
	for _, path := range checkpoints {
		text, err := os.ReadFile(path)
		if err != nil {
			return trust, fmt.Errorf("--checkpoint: %w", err)
		}
		notes := audit.SplitCheckpoints(text)
		if len(notes) == 0 {
			return trust, fmt.Errorf("--checkpoint %s: there is no checkpoint in it", path)
		}
		trust.Notes = append(trust.Notes, notes...)
	}
	return trust, nil
}

// readKeys takes a key, or a file of keys.
func readKeys(given string) ([]audit.Key, error) {
	if audit.Key(given).Check() == nil {
		return []audit.Key{audit.Key(given)}, nil
	}
	text, err := os.ReadFile(given)
	if err != nil {
		return nil, fmt.Errorf("it is no key, and no file: %w", err)
	}
	var list []audit.Key
	for _, line := range strings.Fields(string(text)) {
		if err := audit.Key(line).Check(); err != nil {
			return nil, err
		}
		list = append(list, audit.Key(line))
	}
	return list, nil
}

func verifyExport(c *cobra.Command, path string, trust audit.Trust, p *progress) (*audit.Report, error) {
	v, err := audit.NewVerification(trust)
	if err != nil {
		return nil, err
	}
	in := c.InOrStdin()
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		in = file
	}
	if err := v.ReadExport(in, p.show); err != nil {
		return nil, err
	}
	return v.Report(), nil
}

func verifyDatabase(ctx context.Context, from logFlags, trust audit.Trust, p *progress) (*audit.Report, error) {
	v, err := audit.NewVerification(trust)
	if err != nil {
		return nil, err
	}
	if err := walk(ctx, from, v, p); err != nil {
		return nil, err
	}
	return v.Report(), nil
}

// walk gives the log as it is now to a sink.
func walk(ctx context.Context, from logFlags, sink auditlog.Sink, p *progress) error {
	url, done, err := from.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	return walkURL(ctx, url, sink, p)
}

func walkURL(ctx context.Context, url string, sink auditlog.Sink, p *progress) error {
	r, err := auditlog.OpenReader(ctx, url)
	if err != nil {
		return err
	}
	defer r.Close()
	p.total = r.Leaves()
	return r.Walk(ctx, sink, p.show)
}

// progress says now and then how far it has come, and how fast.
type progress struct {
	out   io.Writer
	began time.Time
	last  time.Time
	total int64 // 0: not known
}

func (p *progress) show(leaves int64) {
	now := time.Now()
	if p.last.IsZero() {
		p.last = p.began
	}
	if now.Sub(p.last) < 2*time.Second {
		return
	}
	p.last = now
	rate := float64(leaves) / now.Sub(p.began).Seconds()
	if p.total > 0 {
		fmt.Fprintf(p.out, "%d of %d events (%d %%), %.0f a second\n", leaves, p.total, 100*leaves/p.total, rate)
		return
	}
	fmt.Fprintf(p.out, "%d events, %.0f a second\n", leaves, rate)
}

// damaged is a log that does not hold. What is wrong has been told.
type damaged struct{}

func (damaged) Error() string { return "the audit log is damaged" }

// tell prints what was found.
func tell(out io.Writer, r *audit.Report, trust audit.Trust, took time.Duration) error {
	var b strings.Builder
	line := func(name, format string, a ...any) {
		fmt.Fprintf(&b, "%-14s"+format+"\n", append([]any{name}, a...)...)
	}
	line("sealed", "%d events of %d writers under %d checkpoints, from %s to %s", r.Leaves, r.Writers, r.Checkpoints, when(r.First), when(r.Last))
	if r.Covered.Size > 0 {
		line("checkpoint", "size %d, root %s, signed %s", r.Covered.Size, r.Covered.Root, when(r.Covered.Time))
	}
	for i, k := range r.Keys {
		line("key", "%d: %s", i+1, k)
	}
	switch {
	case r.Anchored.Size > 0 && r.Anchored.Size == r.Leaves:
		line("anchored", "the checkpoint from outside of size %d, signed %s, holds: it covers all that is sealed", r.Anchored.Size, when(r.Anchored.Time))
	case r.Anchored.Size > 0:
		line("anchored", "the checkpoint from outside of size %d, signed %s, holds: the %d events sealed since then stand on the log's own checkpoints", r.Anchored.Size, when(r.Anchored.Time), r.Leaves-r.Anchored.Size)
	case len(trust.Notes) > 0:
		line("not anchored", "no checkpoint from outside holds")
	default:
		line("not anchored", "no checkpoint from outside was given (--checkpoint), so these would not show:")
		line("", "- the end of the log was cut off at a checkpoint, or an older backup was restored")
		line("", "- all of it was written anew by somebody with the signing key")
	}
	if !r.Vouched {
		line("", "- the key: nobody but the log itself says that it is this log's (--key)")
	}
	if r.Unsealed > 0 {
		line("not sealed", "%d so far, the oldest of %s: nothing is proven of them yet", r.Unsealed, when(r.Oldest))
	}
	tellLateness(&b, r.Lateness)
	if r.Expired > 0 {
		line("expired", "%d events, which retention took away; their leaves hold:", r.Expired)
		for i, one := range r.Retentions {
			if i == shownFindings && len(r.Retentions) > shownFindings+1 {
				line("", "and %d more months", len(r.Retentions)-i)
				break
			}
			line("", "%d of %s, by event %d of writer %s (leaf %d)", one.Found, one.Month, one.Sequence, audit.DatabaseWriter, one.Index)
		}
	}
	if r.Unended > 0 {
		line("writers", "%d have no end: they run, or did not end by themselves (kind writer_lost)", r.Unended)
	}
	line("read", "%d events in %s, %.0f a second", r.Leaves+r.Unsealed, took.Round(time.Millisecond), float64(r.Leaves+r.Unsealed)/took.Seconds())
	if r.Sound() {
		if r.Expired > 0 {
			line("result", "sound: nothing was changed or put in, or taken away but by retention")
		} else {
			line("result", "sound: nothing was changed, taken away or put in")
		}
		_, err := io.WriteString(out, b.String())
		return err
	}
	tellDamage(&b, r)
	if _, err := io.WriteString(out, b.String()); err != nil {
		return err
	}
	return damaged{}
}

// shownFindings is how many findings are printed one by one.
const shownFindings = 20

func tellDamage(b *strings.Builder, r *audit.Report) {
	fmt.Fprintf(b, "result        DAMAGED\n")
	for i, f := range r.Findings {
		if i == shownFindings {
			fmt.Fprintf(b, "              …\n")
			break
		}
		name := ""
		if i == 0 {
			name = "first"
		}
		fmt.Fprintf(b, "%-14s%s\n", name, f)
	}
	name := "counts"
	for _, damage := range sortedDamage(r.Counts) {
		fmt.Fprintf(b, "%-14s%s: %d\n", name, damage, r.Counts[damage])
		name = ""
	}
}
