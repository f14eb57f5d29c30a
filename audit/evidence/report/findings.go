package report

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/recorded"
)

// Reconciliation is the event of one reconciliation. What a reconciliation found are rows
// of tables, not events. The event is sealed and has the digest of these rows, so that
// a reader of the pack computes it again. The pack has no rows without a sealed event.
type Reconciliation struct {
	*recorded.Event
	Leaf      int64
	rows      int
	unread    int  // of these, could not be read
	Unchanged bool // its rows have the digest that was sealed
}

// finder is a section that receives the findings of reconciliations, in the order of
// their events and after all events. Of one whose rows are not what was sealed it is
// given none.
type finder interface {
	reconciled(r *Reconciliation, rows []foundRow)
}

// A foundRow is a check a repository, or what was found of a run of a deployment.
type foundRow struct {
	scan *foundScan
	run  *foundRun
}

// foundScan is a row of audit.reconciliation_scans.
type foundScan struct {
	repositoryUUID, repository, outcome, detail string
	at, until                                   time.Time // until is zero if the scan has none
}

// foundRun is a row of audit.deployment_findings.
type foundRun struct {
	run, repositoryUUID, deploymentUUID, pipelineUUID, stepUUID string
	build                                                       int64
	found, created, started, completed                          time.Time
	state, class, detail                                        string
}

// readFound reads a row as the digest is made of it: a JSON array whose first
// element names its table.
func readFound(row string) (f foundRow, err error) {
	var cells []json.RawMessage
	if json.Unmarshal([]byte(row), &cells) != nil || len(cells) == 0 {
		return f, pack.ErrLine
	}
	cell := func(i int, into any) {
		if err == nil && json.Unmarshal(cells[i], into) != nil { // null leaves it as it is
			err = pack.ErrLine
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
		f.scan = &foundScan{repositoryUUID: text(2), at: moment(3), until: moment(4), repository: text(9), outcome: text(10), detail: text(11)}
	case kind == "finding" && len(cells) == 15:
		f.run = &foundRun{
			run: text(1), repositoryUUID: text(2), deploymentUUID: text(4), pipelineUUID: text(5), stepUUID: text(6),
			found: moment(8), created: moment(9), started: moment(10), completed: moment(11), state: text(12), class: text(13), detail: text(14),
		}
		cell(7, &f.run.build)
	default:
		return f, pack.ErrLine
	}
	return f, err
}

func (r *Reconciliation) ID() string { return r.Attributes["reconciliation"] }

// hold holds the rows of a reconciliation against the digest. It is that of
// audit.reconciliation_digest in SQL: of the rows in the order of their bytes,
// with a line feed between them.
func (r *Reconciliation) hold(rows []string) {
	sum := sha256.New()
	for i, row := range rows {
		if i > 0 {
			sum.Write([]byte{'\n'})
		}
		sum.Write([]byte(row))
	}
	r.rows, r.Unchanged = len(rows), hex.EncodeToString(sum.Sum(nil)) == r.Attributes["digest"]
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

// before reports whether it is earlier than the finding of an event about a deployment
// that was unobserved. That finding is then missing or was changed, and an earlier one
// does not replace it.
func (f *foundRun) before(event *recorded.Event) bool {
	return event != nil && f.class == "pending" && f.found.Before(pack.ParseTime(event.Time))
}

func (r *Reconciliation) Damage() string {
	return fmt.Sprintf("findings_changed: the findings of reconciliation %.36s do not match the digest in its event, leaf %d: rows were changed, removed or inserted", r.ID(), r.Leaf)
}
