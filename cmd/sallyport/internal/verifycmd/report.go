package verifycmd

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/printable"
)

// reportText writes lines that begin with a name.
type reportText struct{ strings.Builder }

func (b *reportText) line(name, format string, a ...any) {
	fmt.Fprintf(b, "%-14s"+format+"\n", append([]any{name}, a...)...)
}

// printReport prints the report, and returns an error for every status but 0.
func printReport(out io.Writer, r *audit.Report, given *givenTrust, duration time.Duration) error {
	var b reportText
	b.line("sealed", "%s of %s under %s, from %s to %s", printable.Count(r.Leaves, "event"), printable.Count(r.Writers, "writer"), printable.Count(r.Checkpoints, "checkpoint"), cli.FormatTimeOrNever(r.First), cli.FormatTimeOrNever(r.Last))
	if r.Covered.Size > 0 {
		b.line("checkpoint", "size %d, root %s, signed %s", r.Covered.Size, r.Covered.Root, cli.FormatTimeOrNever(r.Covered.Time))
	}
	b.keys(r)
	b.anchored(r, given)
	if r.Unsealed > 0 {
		b.line("not sealed", "%d so far, the oldest of %s: no checkpoint covers them yet", r.Unsealed, cli.FormatTimeOrNever(r.Oldest))
	}
	printLateness(&b.Builder, r.Lateness)
	b.cadence(r.Cadence, given.now)
	if r.Expired > 0 {
		b.expired(r)
	}
	b.gaps(r)
	if r.Unended > 0 {
		b.line("writers", "%d have no end: they are running, or were terminated (kind writer_lost)", r.Unended)
	}
	b.unsigned(r)
	b.line("read", "%d events in %s, %.0f a second", r.Leaves+r.Unsealed, duration.Round(time.Millisecond), float64(r.Leaves+r.Unsealed)/duration.Seconds())
	for _, w := range append(given.warnings, r.Warnings...) {
		b.line("warning", "%s", w)
	}
	b.result(r, given)
	if _, err := io.WriteString(out, b.String()); err != nil {
		return err
	}
	return verifyResult(r, given).err()
}

// keys lists the keys, the sizes that each signed, and whether it is trusted.
func (b *reportText) keys(r *audit.Report) {
	for i, u := range r.Uses {
		trust := "only the log itself names this key"
		switch {
		case u.Trusted && u.First > 0:
			trust = "trusted: it vouches for what its checkpoints cover"
		case u.Trusted:
			trust = "trusted, but without a checkpoint it vouches for nothing"
		}
		switch {
		case u.First > 0:
			b.line("key", "%d: %s", i+1, u.Key)
			b.line("", "   signed sizes %d to %d; %s", u.First, u.Last, trust)
		case u.Checkpoints > 0:
			b.line("key", "%d: %s", i+1, u.Key)
			b.line("", "   signed %d checkpoints, none of which is valid", u.Checkpoints)
		default:
			b.line("key", "%d: %s", i+1, u.Key)
			b.line("", "   signed nothing so far; %s", trust)
		}
	}
}

// anchored prints which checkpoint from outside is valid.
func (b *reportText) anchored(r *audit.Report, given *givenTrust) {
	for _, path := range given.found {
		b.line("compared with", "%s, which this instance published (no --checkpoint was given)", path)
	}
	switch {
	case r.Anchored.Size > 0 && r.Anchored.Size == r.Leaves:
		b.line("anchored", "the checkpoint from outside of size %d, signed %s, is valid: it covers all that is sealed", r.Anchored.Size, cli.FormatTimeOrNever(r.Anchored.Time))
	case r.Anchored.Size > 0:
		b.line("anchored", "the checkpoint from outside of size %d, signed %s, is valid: only the log's own checkpoints cover the %d events sealed since then", r.Anchored.Size, cli.FormatTimeOrNever(r.Anchored.Time), r.Leaves-r.Anchored.Size)
	case len(given.trust.Notes) > 0:
		b.line("not anchored", "no valid checkpoint from outside was given that is signed by a key of this log, or by a given key")
	default:
		b.line("not anchored", "no checkpoint from outside was given (--checkpoint), so these would not show:")
		b.line("", "- the end of the log was cut off at a checkpoint, or an older backup was restored")
		b.line("", "- all of it was rewritten by a holder of the signing key")
	}
	if !r.Vouched {
		b.line("", "- the key is not trusted: only the log itself names it (--key)")
	}
}

func (b *reportText) expired(r *audit.Report) {
	b.line("expired", "%d events, which retention removed; their leaves are valid:", r.Expired)
	for i, one := range r.Retentions {
		if i == shownFindings && len(r.Retentions) > shownFindings+1 {
			b.line("", "and %d more months", len(r.Retentions)-i)
			break
		}
		b.line("", "%d of %s, by event %d of writer %s (leaf %d)", one.Found, one.Month, one.Sequence, audit.DatabaseWriter, one.Index)
	}
}

// gaps lists the missing numbers with their declarations and reports.
func (b *reportText) gaps(r *audit.Report) {
	for i, g := range r.Gaps {
		if i == shownFindings {
			b.line("missing", "and %d more declared gaps", len(r.Gaps)-i)
			break
		}
		b.line("missing", "events %d to %d of writer %s: declared missing %s by %s (leaf %d): %s",
			g.First, g.Last, audit.Text(g.Writer, 200), cli.FormatTimeOrNever(g.DeclaredAt), audit.Text(g.Login, 200), g.Index, g.Reason)
	}
	for i, l := range r.Lost {
		if i == shownFindings {
			b.line("lost", "and %d more losses", int64(len(r.Lost)-i)+r.MoreLost)
			break
		}
		by := audit.Text(l.By, 200)
		if !l.Signed {
			by += ", which shows no key of this log"
		}
		b.line("lost", "events %d to %d of writer %s, which the database had acknowledged: reported %s by writer %s (kind events_lost)",
			l.First, l.Last, audit.Text(l.Writer, 200), cli.FormatTimeOrNever(l.At), by)
	}
}

// verifyResult judges a report. What was given has to vouch for the log; where
// nothing was given, that has to be accepted explicitly.
func verifyResult(r *audit.Report, given *givenTrust) trustResult {
	switch {
	case onlyUnvouched(r.Counts):
		return resultUnvouched
	case !r.Sound():
		return resultDamaged
	case r.Anchored.Size > 0 || r.Vouched && !given.checkpoints:
		return resultSound
	case given.unanchored:
		return resultAccepted
	}
	return resultNotAnchored
}

// onlyUnvouched: nothing is wrong but that no given key signed the log.
func onlyUnvouched(counts map[audit.Damage]int64) bool {
	return len(counts) == 1 && counts[audit.DamageUnvouched] > 0
}

// result prints the result.
func (b *reportText) result(r *audit.Report, given *givenTrust) {
	switch verifyResult(r, given) {
	case resultUnvouched:
		b.line("result", "NOT SIGNED BY THE GIVEN KEY: the log is consistent, but is not the log of that key")
		b.line("", "%s", r.Findings[0])
	case resultDamaged:
		b.damage(r)
	case resultSound:
		sound := "sound: nothing was changed, removed or inserted"
		if r.Expired > 0 {
			sound = "sound: nothing was changed or added, and only retention removed events"
		}
		if r.Missing > 0 {
			sound += fmt.Sprintf("; %d events are declared missing", r.Missing)
		}
		b.line("result", "%s", sound)
	case resultAccepted:
		b.line("result", "consistent, not anchored, as --unanchored accepts")
	case resultNotAnchored:
		b.line("result", "%s", unanchoredResult)
		b.line("", "give --key with the public key of the log, or --checkpoint with a file that was kept outside; --unanchored accepts this")
	}
}

// shownFindings is how many findings are printed one by one.
const shownFindings = 20

func (b *reportText) damage(r *audit.Report) {
	b.line("result", "DAMAGED")
	for i, f := range r.Findings {
		if i == shownFindings {
			b.line("", "…")
			break
		}
		name := ""
		if i == 0 {
			name = "first"
		}
		b.line(name, "%s", f)
	}
	name := "counts"
	for _, damage := range sortedDamage(r.Counts) {
		b.line(name, "%s: %d", damage, r.Counts[damage])
		name = ""
	}
}

// unsigned lists the writers of which no event shows a key of the log: nothing but the
// writer itself vouches for what they report.
func (b *reportText) unsigned(r *audit.Report) {
	if r.UnsignedWriters == 0 {
		return
	}
	b.line("writers", "%d of %d show no key of this log at their start: instances without the signing key, or another holder of the login", r.UnsignedWriters, r.UnsignedWriters+r.SignedWriters)
	for i, w := range r.Unsigned {
		if i == shownFindings {
			b.line("", "and %d more", r.UnsignedWriters-i)
			break
		}
		start := "no writer_started"
		if w.Started {
			start = "writer_started without a valid signature"
		}
		b.line("", "%s: %s, %s", audit.Text(w.Writer, 200), printable.Count(w.Events, "event"), start)
	}
}
