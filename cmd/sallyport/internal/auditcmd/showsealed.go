package auditcmd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/evidence/ruletext"
	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
	"github.com/sallyport/sallyport/audit/recorded"
)

// shownSeal is an event's place in the tree: the proof of `audit proof` without the
// record.
type shownSeal struct {
	Leaf       int64        `json:"leaf"`
	Hashes     []audit.Hash `json:"hashes"`
	Checkpoint string       `json:"checkpoint"`

	text string // for people
}

// lookUp proves each record up to the first checkpoint that covers it, and finds the rule's text.
// There are no seals where the log could not be read. An error beside them is of
// records that are not what was sealed, whose seals report it too.
func (d *shownDecision) lookUp(ctx context.Context, url string) error {
	r, err := auditreader.Open(ctx, url)
	if err != nil {
		return err
	}
	defer r.Close()
	if d.rules, d.noRule, err = ruleOf(ctx, r, d.Records[0]); err != nil {
		return err
	}
	seals, damage := make([]*shownSeal, len(d.Records)), error(nil)
	for i, record := range d.Records {
		line, err := prove(ctx, r, record, auditreader.First)
		switch {
		case errors.Is(err, auditreader.ErrNotSealed):
			continue
		case ctx.Err() != nil || auditreader.IsLost(err):
			return err
		case err != nil:
			damage = errors.Join(damage, err)
			seals[i] = &shownSeal{text: "NOT PROVEN: the record is not the one that was sealed, or the tree is damaged"}
			continue
		}
		at, err := audit.ReadCheckpoint([]byte(line.Checkpoint))
		if err != nil {
			return err
		}
		seals[i] = &shownSeal{line.Leaf, line.Hashes, line.Checkpoint,
			fmt.Sprintf("as leaf %d, proven up to the checkpoint of size %d, signed %s", line.Leaf, at.Size, at.Time.UTC().Format(time.RFC3339))}
	}
	d.seals = seals
	return damage
}

// ruleOf quotes the rule from the policy that the log keeps. Of a record that cannot
// be read it quotes nothing, as nothing of it can be shown.
func ruleOf(ctx context.Context, r *auditreader.Reader, record []byte) (rules []pack.RuleText, none string, err error) {
	if _, kind := recorded.Peek(record); kind != string(audit.KindDecision) {
		return nil, "", nil
	}
	return ruletext.Find(record, func(revision string) ([]byte, error) { return r.PolicyContent(ctx, revision) })
}

// printRule writes the rule's text. It is a policy's, and may hold anything.
func (d *shownDecision) printRule(b *strings.Builder) {
	if d.noRule != "" {
		fmt.Fprintf(b, "\nthe rule\n  %s\n", d.noRule)
	}
	for _, rule := range d.rules {
		fmt.Fprintf(b, "\nthe rule, %s, lines %d to %d\n", shownCode(rule.File), rule.First, rule.Last)
		for line := range strings.Lines(rule.Text) {
			fmt.Fprintf(b, "  | %s\n", shownCode(strings.TrimSuffix(line, "\n")))
		}
	}
}

// shownCode is a line of code that moves no terminal's cursor. Its tabs stay tabs.
func shownCode(line string) string {
	pieces := strings.Split(line, "\t")
	for i, piece := range pieces {
		pieces[i] = audit.Text(piece, 8*len(piece)) // nothing is cut off: no escape is longer
	}
	return strings.Join(pieces, "\t")
}

func (s *shownSeal) String() string {
	if s == nil {
		return "not yet: nothing is proven of it"
	}
	return s.text
}
