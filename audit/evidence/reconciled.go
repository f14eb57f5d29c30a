package evidence

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// What a reconciliation found are rows of tables that are not events. Its event has
// the digest of these rows, and is sealed: so the rows are in the pack as the
// digest is made of them, and whoever has the pack makes it again. Rows that no
// sealed event names are not in the pack.

// reconciled is the event of one reconciliation.
type reconciled struct {
	*recordFields
	leaf      int64
	rows      int
	unread    int  // of these, could not be read
	unchanged bool // its rows have the digest that was sealed
}

func (r *reconciled) id() string { return r.Attributes["reconciliation"] }

// hold holds the rows of a reconciliation against the digest. It is that of
// audit.reconciliation_digest in SQL: of the rows in the order of their bytes,
// with a line feed between them.
func (r *reconciled) hold(rows []string) {
	sum := sha256.New()
	for i, row := range rows {
		if i > 0 {
			sum.Write([]byte{'\n'})
		}
		sum.Write([]byte(row))
	}
	r.rows, r.unchanged = len(rows), hex.EncodeToString(sum.Sum(nil)) == r.Attributes["digest"]
}

// finder is a section that is told what reconciliations found, in the order of
// their events and after all events. Of one whose rows are not what was sealed it is
// given none.
type finder interface {
	reconciled(r *reconciled, rows []foundRow)
}

// A foundRow is a check a repository, or what was found of a run of a deployment.
type foundRow struct {
	look *foundLook
	run  *foundRun
}

// foundLook is a row of audit.reconciliation_scans.
type foundLook struct {
	repositoryUUID, repository, outcome, detail string
	at, until                                   time.Time // until is zero where the look does not tell
}

// foundRun is a row of audit.deployment_findings.
type foundRun struct {
	run, repositoryUUID, deploymentUUID, pipelineUUID, stepUUID string
	build                                                       int64
	found, created, started, completed                          time.Time
	state, class, detail                                        string
}

// began is when it began, as audit.deployment_reconciliation has it.
func (f *foundRun) began() time.Time {
	switch {
	case !f.started.IsZero():
		return f.started
	case !f.created.IsZero():
		return f.created
	}
	return f.found
}

// before reports whether it is an earlier finding than the one that an event says was
// not seen. That one is then missing, or is not what it was, and what was found before
// it says nothing of it.
func (f *foundRun) before(event *recordFields) bool {
	return event != nil && f.class == "pending" && f.found.Before(momentOf(event.Time))
}

// readFound reads a row as the digest is made of it: a JSON array whose first
// element says which table it is of.
func readFound(row string) (f foundRow, err error) {
	var cells []json.RawMessage
	if json.Unmarshal([]byte(row), &cells) != nil || len(cells) == 0 {
		return f, errLine
	}
	cell := func(i int, into any) {
		if err == nil && json.Unmarshal(cells[i], into) != nil { // null leaves it as it is
			err = errLine
		}
	}
	text := func(i int) (s string) {
		cell(i, &s)
		return audit.Text(s, 1000)
	}
	moment := func(i int) (t time.Time) {
		cell(i, &t)
		return t.UTC()
	}
	switch kind := text(0); {
	case kind == "scan" && len(cells) == 12:
		f.look = &foundLook{repositoryUUID: text(2), at: moment(3), until: moment(4), repository: text(9), outcome: text(10), detail: text(11)}
	case kind == "finding" && len(cells) == 15:
		f.run = &foundRun{
			run: text(1), repositoryUUID: text(2), deploymentUUID: text(4), pipelineUUID: text(5), stepUUID: text(6),
			found: moment(8), created: moment(9), started: moment(10), completed: moment(11), state: text(12), class: text(13), detail: text(14),
		}
		cell(7, &f.run.build)
	default:
		return f, errLine
	}
	return f, err
}

// foundLine is a line of reconciliations.jsonl.
type foundLine struct {
	Leaf int64           `json:"leaf"` // of the event that has the digest
	Row  json.RawMessage `json:"row"`
}

func appendFound(b []byte, leaf int64, row string) []byte {
	b = append(b, `{"leaf":`...)
	b = strconv.AppendInt(b, leaf, 10)
	b = append(b, `,"row":`...)
	b = append(b, row...)
	return append(b, '}', '\n')
}

// readFoundLine reads a line that appendFound wrote, and no other spelling of it.
func readFoundLine(line []byte) (leaf int64, row string, err error) {
	var l foundLine
	if json.Unmarshal(line, &l) != nil || l.Leaf < 0 || len(l.Row) == 0 ||
		!bytes.Equal(appendFound(nil, l.Leaf, string(l.Row)), append(bytes.Clone(line), '\n')) {
		return 0, "", errLine
	}
	return l.Leaf, string(l.Row), nil
}

// found holds what a reconciliation found against its digest, and tells the report.
func (p *population) found(r *reconciled, rows []string) {
	r.hold(rows)
	var list []foundRow
	for _, row := range rows {
		if !r.unchanged {
			break
		}
		f, err := readFound(row)
		if err != nil {
			r.unread++
			continue
		}
		list = append(list, f)
	}
	for _, one := range p.sections {
		if f, ok := one.(finder); ok {
			f.reconciled(r, list)
		}
	}
}

// reconciliations writes what the reconciliations found that events name.
func (b *builder) reconciliations(ctx context.Context) error {
	lines, err := b.folder.create(reconciliationsFile)
	if err != nil {
		return err
	}
	defer lines.drop()
	var line []byte
	written := int64(0)
	for _, r := range b.population.reconciled {
		var rows []string
		if isID(r.id()) {
			if rows, err = b.log.Findings(ctx, r.id()); err != nil {
				return err
			}
		}
		for _, row := range rows {
			line = appendFound(line[:0], r.leaf, row)
			if _, err := lines.Write(line); err != nil {
				return err
			}
			written++
		}
		b.population.found(r, rows)
		if !r.unchanged {
			b.facts.Result.Sound = false
			b.facts.Result.Findings = append(b.facts.Result.Findings, r.changed())
		}
		b.options.Progress("findings of reconciliations", written)
	}
	return lines.close(written)
}

func (r *reconciled) changed() string {
	return fmt.Sprintf("findings_changed: the findings of reconciliation %.36s do not match the digest in its event, leaf %d: rows were changed, removed or inserted", r.id(), r.leaf)
}

// reconciliations reads the findings again and holds them against the events.
func (c *checker) reconciliations() error {
	file, err := c.root.Open(reconciliationsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return wrong("%s: it is missing", reconciliationsFile)
	}
	if err != nil {
		return err
	}
	defer file.Close()
	in := bufio.NewScanner(file)
	in.Buffer(make([]byte, 1<<16), maxLine)
	n, more, leaf, row := 0, true, int64(-1), ""
	next := func() error {
		if more = in.Scan(); !more {
			return in.Err()
		}
		n++
		if leaf, row, err = readFoundLine(in.Bytes()); err != nil {
			return wrong("%s: line %d: %v", reconciliationsFile, n, err)
		}
		return c.ctx.Err()
	}
	if err := next(); err != nil {
		return err
	}
	for _, r := range c.taken.reconciled {
		var rows []string
		for more && leaf == r.leaf {
			rows = append(rows, row)
			if err := next(); err != nil {
				return err
			}
		}
		c.taken.found(r, rows)
		if !r.unchanged && c.m.Sound {
			return wrong("%s: %s", reconciliationsFile, r.changed())
		}
	}
	if more {
		return wrong("%s: line %d is of no reconciliation in its place", reconciliationsFile, n)
	}
	return nil
}
