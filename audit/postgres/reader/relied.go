package reader

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
)

// Relied is a sink that passes everything on, and keeps what the events state of the
// tables beside them that evidence relies on:
//
//   - audit.policies: the content of each revision that decided,
//   - audit.reconciliation_scans and audit.deployment_findings: what each
//     reconciliation added, by the digest in its event,
//   - audit.expired: how many events retention took, by its event.
//
// [Reader.CheckRelied] then compares. The names in the schema identity are not among
// them: an event has the names of its moment, and no pack reads others.
type Relied struct {
	Sink
	revisions       map[string]mention
	reconciliations map[string][]claimed // every login that may record adds any number
	retentions      map[int64]claimed
}

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// mention is the place of the first event that states something.
type mention struct {
	leaf     int64 // -1: it is not sealed
	writer   string
	sequence int64
}

type claimed struct {
	mention
	value string // a digest, or a count
}

// NewRelied returns a sink before another.
func NewRelied(sink Sink) *Relied {
	return &Relied{Sink: sink, revisions: map[string]mention{}, reconciliations: map[string][]claimed{}, retentions: map[int64]claimed{}}
}

// Sealed notes what the event states.
func (r *Relied) Sealed(e *audit.Entry) {
	r.note(e, e.Index)
	r.Sink.Sealed(e)
}

// Unsealed notes what the event states.
func (r *Relied) Unsealed(e *audit.Entry) {
	r.note(e, -1)
	r.Sink.Unsealed(e)
}

var revisionFields = [...]string{`,"revision":"`, `,"repository_revision":"`}

const inputField = `,"input":{`

func (r *Relied) note(e *audit.Entry, leaf int64) {
	at := mention{leaf, e.Writer, e.Sequence}
	switch kind := audit.KindOf(e.Record); kind {
	case audit.KindDecision, audit.KindPolicyLoaded:
		// A quote inside of a string of JSON is escaped (RFC 8259 section 7), so that
		// only the field itself looks like this before the input.
		head, _, _ := bytes.Cut(e.Record, []byte(inputField))
		for _, field := range revisionFields {
			_, rest, found := bytes.Cut(head, []byte(field))
			if !found {
				continue
			}
			revision, _, _ := bytes.Cut(rest, []byte(`"`))
			if _, known := r.revisions[string(revision)]; !known {
				r.revisions[string(revision)] = at
			}
		}
	case audit.KindReconciled:
		if a := attributesIn(e.Record); a["reconciliation"] != "" {
			r.reconciliations[a["reconciliation"]] = append(r.reconciliations[a["reconciliation"]], claimed{at, a["digest"]})
		}
	case audit.KindRetention:
		if e.Writer == audit.DatabaseWriter {
			r.retentions[e.Sequence] = claimed{at, attributesIn(e.Record)["events"]}
		}
	}
}

// maxDoubted is how many warnings about such events are reported one by one.
const maxDoubted = 20

// attributesIn are the attributes of a record.
func attributesIn(record []byte) map[string]string {
	var event struct{ Attributes map[string]string }
	_ = json.Unmarshal(record, &event) // what cannot be read states nothing; the record is checked elsewhere
	return event.Attributes
}

func (p mention) finding(damage audit.Damage, format string, a ...any) audit.Finding {
	return audit.Finding{Damage: damage, First: p.leaf, Last: p.leaf, Writer: p.writer, Sequence: p.sequence, Detail: fmt.Sprintf(format, a...)}
}

// CheckRelied compares the tables with what the events state, at the reader's moment.
// It is called after [Reader.Walk] with that sink. showsKey reports whether a writer's
// process has a key of the log, see [audit.Verification.ShowsKey]: what other writers
// report of a reconciliation is a warning, because every login that may record can be
// one. The other warnings are about rows that no event names.
func (r *Reader) CheckRelied(ctx context.Context, relied *Relied, showsKey func(writer string) bool) (found []audit.Finding, warnings []string, err error) {
	if _, err := r.tx.Exec(ctx, auditpg.SchemaSettings); err != nil {
		return nil, nil, r.explain("settle the session", err)
	}
	reconciliations := func(ctx context.Context, relied *Relied) ([]audit.Finding, []string, error) {
		return r.checkReconciliations(ctx, relied, showsKey)
	}
	for _, check := range []func(context.Context, *Relied) ([]audit.Finding, []string, error){r.checkPolicies, reconciliations, r.checkExpired} {
		more, also, err := check(ctx, relied)
		if err != nil {
			return nil, nil, err
		}
		found, warnings = append(found, more...), append(warnings, also...)
	}
	return found, warnings, nil
}

const policyDigestsSQL = `SELECT digest, 'sha256:' || encode(sha256(content), 'hex') FROM audit.policies`

func (r *Reader) checkPolicies(ctx context.Context, relied *Relied) (found []audit.Finding, _ []string, err error) {
	rows, err := r.tx.Query(ctx, policyDigestsSQL)
	if err != nil {
		return nil, nil, r.explain("read policies", err)
	}
	kept := map[string]bool{}
	var digest, of string
	if _, err := pgx.ForEachRow(rows, []any{&digest, &of}, func() error {
		kept[digest] = true
		if digest != of {
			at, used := relied.revisions[digest]
			if !used {
				at.leaf = -1
			}
			found = append(found, at.finding(audit.DamagePolicy, "the content of policy %s in audit.policies has the digest %s", audit.Text(digest, 100), of))
		}
		return nil
	}); err != nil {
		return nil, nil, r.explain("read policies", err)
	}
	for _, revision := range slices.Sorted(maps.Keys(relied.revisions)) {
		if !kept[revision] {
			found = append(found, relied.revisions[revision].finding(audit.DamagePolicy, "policy %s decided and is not in audit.policies", audit.Text(revision, 100)))
		}
	}
	return found, nil, nil
}

func (r *Reader) checkReconciliations(ctx context.Context, relied *Relied, showsKey func(string) bool) (found []audit.Finding, warnings []string, err error) {
	doubted := 0
	for _, id := range slices.Sorted(maps.Keys(relied.reconciliations)) {
		lines, malformed := []string(nil), !uuidForm.MatchString(id)
		if !malformed {
			if lines, err = r.Findings(ctx, id); err != nil {
				return nil, nil, err
			}
		}
		sum := sha256.Sum256([]byte(strings.Join(lines, "\n")))
		digest := hex.EncodeToString(sum[:])
		for _, claim := range relied.reconciliations[id] {
			var f audit.Finding
			switch {
			case malformed:
				f = claim.finding(audit.DamageReconciliation, "the event names the reconciliation %q, which is not a UUID", audit.Text(id, 100))
			case claim.value != digest:
				f = claim.finding(audit.DamageReconciliation, "the %d rows of reconciliation %s have the digest %s, and its event has the digest %s", len(lines), id, digest, audit.Text(claim.value, 100))
			default:
				continue
			}
			if showsKey(claim.writer) {
				found = append(found, f)
			} else if doubted++; doubted <= maxDoubted {
				warnings = append(warnings, fmt.Sprintf("event %d of writer %s, which shows no key of the log: %s", claim.sequence, audit.Text(claim.writer, 100), f.Detail))
			}
		}
	}
	if doubted > maxDoubted {
		warnings = append(warnings, fmt.Sprintf("%d more events of writers that show no key of the log report digests that reconciliations do not have", doubted-maxDoubted))
	}
	rows, err := r.tx.Query(ctx, `SELECT DISTINCT reconciliation::text FROM audit.reconciliation_scans UNION SELECT DISTINCT reconciliation::text FROM audit.deployment_findings ORDER BY 1`)
	if err != nil {
		return nil, nil, r.explain("read reconciliations", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, nil, r.explain("read reconciliations", err)
	}
	unnamed := slices.DeleteFunc(ids, func(id string) bool { _, named := relied.reconciliations[id]; return named })
	if len(unnamed) > 0 {
		warnings = append(warnings, fmt.Sprintf("no event names the rows of %d reconciliations, the first %s: one that runs or was interrupted gets its event with the next one, and rows that were added by hand look the same", len(unnamed), unnamed[0]))
	}
	return found, warnings, nil
}

func (r *Reader) checkExpired(ctx context.Context, relied *Relied) (found []audit.Finding, _ []string, err error) {
	rows, err := r.tx.Query(ctx, `SELECT retention, sum(events)::bigint::text FROM audit.expired GROUP BY retention ORDER BY retention`)
	if err != nil {
		return nil, nil, r.explain("read what retention took", err)
	}
	kept := map[int64]bool{}
	var number int64
	var events string
	if _, err := pgx.ForEachRow(rows, []any{&number, &events}, func() error {
		kept[number] = true
		switch claim, named := relied.retentions[number]; {
		case !named:
			found = append(found, mention{leaf: -1, writer: audit.DatabaseWriter, sequence: number}.finding(audit.DamageExpired, "audit.expired counts %s events for a retention that is not in the log", events))
		case claim.value != events:
			found = append(found, claim.finding(audit.DamageExpired, "audit.expired counts %s events, and the event of the retention %s", events, audit.Text(claim.value, 100)))
		}
		return nil
	}); err != nil {
		return nil, nil, r.explain("read what retention took", err)
	}
	for _, number := range slices.Sorted(maps.Keys(relied.retentions)) {
		if claim := relied.retentions[number]; !kept[number] && claim.value != "0" {
			found = append(found, claim.finding(audit.DamageExpired, "audit.expired counts nothing for this retention of %s events", audit.Text(claim.value, 100)))
		}
	}
	return found, nil, nil
}

// Schema describes the schema at the reader's moment.
func (r *Reader) Schema(ctx context.Context) (auditpg.Schema, error) {
	s, err := auditpg.DescribeSchema(ctx, r.tx, auditpg.SchemaSQL)
	return s, r.explain("describe the schema", err)
}
