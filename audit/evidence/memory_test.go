package evidence

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/recorded"
	"github.com/sallyport/sallyport/policy"
)

// testKey signs nothing but tests.
const testKey = "PRIVATE+KEY+acme.example/egress+07cb9bbc+AdzjBsCZ3J6slJXxUuswhPXAQ6CUH1SdZO9O3bt1kOi1"

func signer(t testing.TB) *audit.Signer {
	t.Helper()
	s, err := audit.ParseSigner(testKey)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// memory is a log in memory.
type memory struct {
	t        testing.TB
	signer   *audit.Signer
	now      time.Time
	tree     audit.Tree
	entries  []audit.Entry // the sealed ones
	waiting  []*audit.Event
	notes    []audit.Statement
	numbers  map[string]int64
	policies map[string][]byte
	access   []pack.Table
	found    map[string][]string // rows of reconciliations
	sealed   map[string]int64    // last number with a leaf
}

func newMemory(t testing.TB) *memory {
	m := &memory{t: t, signer: signer(t), numbers: map[string]int64{}, policies: map[string][]byte{}, found: map[string][]string{}, sealed: map[string]int64{}, now: at(30, 0)}
	m.access = []pack.Table{{Name: "roles", Title: "Roles", Columns: []string{"role", "superuser"}, Rows: [][]string{{"postgres", "true"}}}}
	return m
}

// at is a moment of the month that tests are about.
func at(day, hour int) time.Time {
	return time.Date(2026, 10, day, hour, 0, 0, 0, time.UTC)
}

// add records events; they are sealed by seal.
func (m *memory) add(writer string, events ...*audit.Event) {
	for _, e := range events {
		m.numbers[writer]++
		e.Writer, e.WriterSequence = writer, m.numbers[writer]
		e.Normalise()
		m.waiting = append(m.waiting, e)
	}
}

// seal takes what is waiting into the tree and signs it.
func (m *memory) seal(when time.Time) {
	var stuck []*audit.Event
	for _, e := range m.waiting {
		if e.WriterSequence != m.sealed[e.Writer]+1 && !m.declared(e.Writer, m.sealed[e.Writer]+1, e.WriterSequence-1) {
			stuck = append(stuck, e)
			continue
		}
		m.sealed[e.Writer] = e.WriterSequence
		record := e.AppendRecord(nil)
		m.entries = append(m.entries, audit.Entry{Index: m.tree.Size(), Writer: e.Writer, Sequence: e.WriterSequence, Hash: audit.Leaf(record), Record: record})
		m.tree.Append(audit.Leaf(record))
	}
	m.waiting = stuck
	signed, err := m.signer.Sign(audit.Checkpoint{Size: m.tree.Size(), Root: m.tree.Root(), Time: when})
	if err != nil {
		m.t.Fatal(err)
	}
	m.notes = append(m.notes, audit.Statement{Note: signed, Size: m.tree.Size(), Time: when})
}

// declared reports whether a sealed event declares that the numbers never come: sealing
// continues behind a gap that is declared.
func (m *memory) declared(writer string, first, last int64) bool {
	for _, e := range m.entries {
		if s, err := recorded.Read(e.Record); err == nil && s.Kind == string(audit.KindGapDeclared) {
			if one, ok := explanationOf(s, e.Index); ok && one.writer == writer && one.first <= first && last <= one.last {
				return true
			}
		}
	}
	return false
}

// explained is an event of that kind about numbers of a writer.
func explained(kind audit.Kind, when time.Time, writer string, first, last int64) *audit.Event {
	return &audit.Event{Time: when, Kind: kind, Attributes: []audit.Attribute{
		{Name: "writer", Value: writer}, {Name: "first", Value: strconv.FormatInt(first, 10)}, {Name: "last", Value: strconv.FormatInt(last, 10)}, {Name: "reason", Value: "the standby was behind"}}}
}

// continuing is the first event of a writer that continues others.
func continuing(when time.Time, previous string) *audit.Event {
	return &audit.Event{Time: when, Kind: audit.KindWriterStarted, Attributes: []audit.Attribute{{Name: "previous_writer", Value: previous}}}
}

// secretAges adds a report of the ages of secrets.
func (m *memory) secretAges(writer string, when time.Time, ages ...audit.SecretAge) {
	m.add(writer, &audit.Event{Time: when, Kind: audit.KindSecretAges, Attributes: audit.AppendSecretAges(nil, ages)})
}

// declare is the declaration of a gap, signed with the log's key.
func (m *memory) declare(when time.Time, writer string, first, last int64) *audit.Event {
	d, err := m.signer.DeclareGap(writer, first, last, "the standby was behind", when)
	if err != nil {
		m.t.Fatal(err)
	}
	e := explained(audit.KindGapDeclared, when, writer, first, last)
	e.Attributes = append(e.Attributes, audit.Attribute{Name: "declared_at", Value: d.DeclaredAt.Format(time.RFC3339)},
		audit.Attribute{Name: "login", Value: "ops"}, audit.Attribute{Name: "key", Value: string(d.Key)}, audit.Attribute{Name: "signature", Value: d.Signature})
	return e
}

func (m *memory) Database(context.Context) (pack.Database, error) {
	return pack.Database{System: "7000000000000000001", Name: "sallyport", User: "sallyport_auditor", Schema: 8, Now: m.now}, nil
}

func (m *memory) Cover(_ context.Context, from, to time.Time) (pack.Cover, error) {
	c := pack.Cover{Last: -1}
	p := pack.Period{From: from, To: to}
	for _, e := range m.entries {
		if when, _ := recorded.Peek(e.Record); p.Contains(when) {
			c.Events++
			c.Last = e.Index
		}
	}
	for _, e := range m.waiting {
		if !e.Time.Before(from) && e.Time.Before(to) {
			c.Events++
			c.Unsealed++
		}
	}
	return c, nil
}

// Unsealed and Next are what the database does in SQL.
func (m *memory) Unsealed(_ context.Context, from, to time.Time) ([]pack.UnsealedRun, error) {
	sealed, at := map[string]int64{}, map[string]time.Time{}
	for _, e := range m.entries {
		if e.Sequence > sealed[e.Writer] {
			when, _ := recorded.Peek(e.Record)
			sealed[e.Writer], at[e.Writer] = e.Sequence, pack.ParseTime(when)
		}
	}
	waiting := slices.Clone(m.waiting)
	slices.SortStableFunc(waiting, func(a, b *audit.Event) int {
		return cmp.Or(strings.Compare(a.Writer, b.Writer), cmp.Compare(a.WriterSequence, b.WriterSequence))
	})
	var runs []pack.UnsealedRun
	for _, e := range waiting {
		if e.WriterSequence <= sealed[e.Writer] {
			continue
		}
		n := len(runs)
		if n == 0 || runs[n-1].Writer != e.Writer || runs[n-1].Last+1 < e.WriterSequence {
			runs = append(runs, pack.UnsealedRun{Writer: e.Writer, Sealed: sealed[e.Writer], SealedAt: at[e.Writer], First: e.WriterSequence, At: e.Time})
			n++
		}
		r := &runs[n-1]
		r.Last, r.Until = e.WriterSequence, e.Time
		if !e.Time.Before(from) && e.Time.Before(to) {
			r.InPeriod++
		}
	}
	return runs, nil
}

func (m *memory) Next(_ context.Context, writers []string, numbers []int64) ([]pack.NextNumber, error) {
	var list []pack.NextNumber
	for i, writer := range writers {
		least := pack.NextNumber{Writer: writer, Number: math.MaxInt64}
		for _, e := range m.entries {
			if e.Writer == writer && e.Sequence > numbers[i] && e.Sequence < least.Number {
				when, _ := recorded.Peek(e.Record)
				least.Number, least.At = e.Sequence, pack.ParseTime(when)
			}
		}
		for _, e := range m.waiting {
			if e.Writer == writer && e.WriterSequence > numbers[i] && e.WriterSequence < least.Number {
				least.Number, least.At = e.WriterSequence, e.Time
			}
		}
		if !least.At.IsZero() {
			list = append(list, least)
		}
	}
	return list, nil
}

func (m *memory) Checkpoint(_ context.Context, size int64) ([]byte, error) {
	for _, n := range m.notes {
		if n.Size >= size {
			return n.Note, nil
		}
	}
	return nil, nil
}

func (m *memory) CheckpointSizes(_ context.Context, before, hourlyFrom time.Time) ([]int64, error) {
	last := map[time.Time]int64{}
	for _, n := range m.notes {
		if !n.Time.Before(before.Truncate(time.Hour)) {
			continue
		}
		period := 24 * time.Hour
		if !n.Time.Before(hourlyFrom) {
			period = time.Hour
		}
		last[n.Time.Truncate(period)] = max(last[n.Time.Truncate(period)], n.Size)
	}
	return slices.Collect(maps.Values(last)), nil
}

func (m *memory) Consistency(_ context.Context, from, to int64) (*audit.Consistency, error) {
	if to > int64(len(m.entries)) {
		return nil, pack.ErrNoTree
	}
	p := proverFor(m.t, to)
	if err := p.expect(from); err != nil {
		return nil, err
	}
	for _, e := range m.entries[:to] {
		p.add(e.Index, e.Hash)
	}
	return p.consistencies()[0], nil
}

func (m *memory) CheckpointAfter(_ context.Context, t time.Time) ([]byte, error) {
	for _, n := range m.notes {
		if !n.Time.Before(t) {
			return n.Note, nil
		}
	}
	return nil, nil
}

func (m *memory) Count(_ context.Context, s pack.Selection) (n int64, err error) {
	for _, e := range m.entries[:s.Size] {
		r, err := recorded.Read(e.Record)
		if err == nil && r.Kind == "decision" && (pack.Period{From: s.From, To: s.To}).Contains(r.Time) && pack.IsSelected(s.Repositories, r) {
			n++
		}
	}
	return n, nil
}

// spoil takes back what was lent.
func spoil(lent ...[]byte) {
	for _, b := range lent {
		for i := range b {
			b[i] = 'X'
		}
	}
}

func (m *memory) Walk(_ context.Context, size int64, sink pack.Sink, progress func(int64)) error {
	next := 0
	for i := range m.entries[:size] {
		e := m.entries[i]
		for next < len(m.notes) && m.notes[next].Size <= e.Index {
			sink.Checkpoint(m.notes[next])
			next++
		}
		e.Record = bytes.Clone(e.Record)
		sink.Sealed(&e)
		spoil(e.Record)
	}
	for ; next < len(m.notes) && m.notes[next].Size <= size; next++ {
		sink.Checkpoint(m.notes[next])
	}
	progress(size)
	return nil
}

func (m *memory) RetentionAfter(_ context.Context, leaf int64) (int64, error) {
	for _, e := range slices.Backward(m.entries) {
		if _, kind := recorded.Peek(e.Record); e.Index >= leaf && kind == string(audit.KindRetention) {
			note, _ := m.Checkpoint(context.Background(), e.Index+1)
			c, err := audit.ReadCheckpoint(note)
			return c.Size, err
		}
	}
	return 0, nil
}

func (m *memory) Findings(_ context.Context, id string) ([]string, error) { return m.found[id], nil }

func (m *memory) Policy(_ context.Context, digest string) ([]byte, error) {
	return m.policies[digest], nil
}
func (m *memory) Access(context.Context, time.Time, time.Time) ([]pack.Table, error) {
	return m.access, nil
}
func (m *memory) Queries() []pack.Query {
	return []pack.Query{{Name: pack.QueryDecisions, SQL: "SELECT\n\t1", Parameters: []string{"from"}}, {Name: pack.QueryLeaves, SQL: "SELECT 2"}}
}

// hostile is what an attacker puts wherever it is let.
const hostile = `=cmd|' /C calc'!A0"><script>alert(1)</script>{{.}}`

const rulesFile = `package sallyport.egress

import rego.v1

# The partner that settles payments.
allow contains {"rule": "partner", "message": "settlement"} if {
	input.repository.full_name == "acme/payments"
	input.target.host == "api.partner.example"
}

deny contains {"rule": "no-paste-sites"} if input.target.host == "paste.example"
`

// id is the n-th decision's.
func id(n int) string { return fmt.Sprintf("01a1fdf4-c192-7cf7-900b-%012x", n) }

const (
	workspaceUUID  = "922e118c-f34f-4226-a897-0e0afbec553d"
	repositoryUUID = "11112222-3333-4444-5555-666677778888"
)

func decisionEvent(n int, when time.Time, verdict, reason, host string) *audit.Event {
	return &audit.Event{
		Time: when, Kind: audit.KindDecision, DecisionID: id(n), WorkspaceUUID: workspaceUUID, RepositoryUUID: repositoryUUID,
		Workspace: "acme", Repository: "acme/payments", Deployment: "production-eu", DeploymentType: "production", DeploymentUUID: "aaaabbbb-cccc-4ddd-8eee-ffff00001111",
		Branch: "main", Action: "connect", Scheme: "https", Host: host, Port: 443, Verdict: verdict, Mode: "enforce", Reason: reason,
		Input: []byte(`{"action":"connect","target":{"host":"` + host + `","port":443}}`),
	}
}

func endEvent(n int, when time.Time, sent, received int64) *audit.Event {
	return &audit.Event{Time: when, Kind: audit.KindTunnelClosed, DecisionID: id(n), BytesSent: sent, BytesReceived: received, Duration: time.Minute, CloseReason: "finished"}
}

// october is a log with something of everything.
func october(t testing.TB) *memory {
	m := newMemory(t)
	snapshot, err := policy.NewSnapshot([]policy.File{{Path: "egress/partner.rego", Content: []byte(rulesFile)}}, "0123456789abcdef0123456789abcdef01234567")
	if err != nil {
		t.Fatal(err)
	}
	m.policies[snapshot.Digest] = snapshot.Content()
	ruled := func(e *audit.Event, rule string) *audit.Event {
		e.Rule, e.Rules, e.Revision, e.Commit = rule, []string{rule}, snapshot.Digest, snapshot.Commit
		return e
	}
	const a, b = "01a1fdf4-0000-7000-8000-00000000000a", "01a1fdf4-0000-7000-8000-00000000000b"
	start := func(host string, when time.Time) *audit.Event {
		e := &audit.Event{Time: when, Kind: audit.KindWriterStarted, Attributes: []audit.Attribute{{Name: "version", Value: "test"}, {Name: "hostname", Value: host}}}
		if host == "proxy-1" { // proxy-2 is an instance without the key
			e.Attributes = append(e.Attributes, writerKey(t, m.signer, a)...)
		}
		return e
	}
	loaded := func(when time.Time) *audit.Event {
		return &audit.Event{Time: when, Kind: audit.KindPolicyLoaded, Revision: snapshot.Digest, Commit: snapshot.Commit, Attributes: []audit.Attribute{
			{Name: "source", Value: "git"}, {Name: "author", Value: "Ada <ada@acme.example>"}, {Name: "subject", Value: "Let payments settle (pull request #12)"}, {Name: "signature", Value: "verified"}, {Name: "signer", Value: "ada"}}}
	}
	first := audit.Register(m.signer, at(1, 0))
	m.add(a, start("proxy-1", at(1, 0)), first, loaded(at(1, 0)))
	m.seal(at(1, 0))
	for n := range 40 {
		e := ruled(decisionEvent(n, at(2+n%20, 9).Add(time.Duration(n)*time.Second), "allow", "policy_allowed", "api.partner.example"), "partner")
		m.add(a, e)
		if n%8 != 7 {
			m.add(a, endEvent(n, e.Time.Add(time.Minute), int64(n), 1000))
		}
	}
	m.seal(at(22, 0))
	denied := ruled(decisionEvent(100, at(22, 1), "deny", "policy_denied", "paste.example"), "no-paste-sites")
	denied.Message, denied.Branch = hostile, hostile
	nobody := &audit.Event{Time: at(22, 2), Kind: audit.KindDecision, DecisionID: id(101), Action: "connect", TargetRaw: hostile, Verdict: "deny", Mode: "enforce", Reason: "target_invalid", Status: 400}
	reported := ruled(decisionEvent(102, at(22, 3), "allow", "no_rule_matched", "fonts.unlisted.example"), "observed")
	reported.Mode, reported.WouldDeny = "report", true
	reported.AddExceptions([]audit.AppliedException{{Path: "data.exceptions[0]", Owner: "ada@acme.example", Ticket: "SEC-1", Hosts: []string{"fonts.unlisted.example", hostile}, Until: at(10, 0)}})
	other := decisionEvent(103, at(22, 4), "deny", "no_rule_matched", "elsewhere.example")
	other.Repository, other.RepositoryUUID = "acme/website", "99992222-3333-4444-5555-666677778888"
	failed := decisionEvent(104, at(22, 4), "deny", "policy_error", "slow.example")
	failed.Status = 403
	m.add(a, denied, nobody, reported, other, failed, &audit.Event{Time: at(22, 5), Kind: audit.KindAdmin, Action: "emergency_stop", Message: hostile,
		Attributes: []audit.Attribute{{Name: "operator", Value: "ops"}}})
	m.selfTest(a, 0, at(22, 12))
	m.add(b, start("proxy-2", at(23, 0)), loaded(at(23, 0)))
	// A change of a few hours, and the revert of it: another commit with the files
	// of the first.
	later, reverted := loaded(at(23, 9)), loaded(at(23, 15))
	later.Revision, later.Commit = "sha256:"+strings.Repeat("b", 64), strings.Repeat("b", 40)
	later.Attributes[1].Value, later.Attributes[2].Value, later.Attributes[4].Value = "Kim <kim@acme.example>", "Let payments settle faster "+hostile, "kim"
	later.Attributes = append(later.Attributes, audit.Attribute{Name: "replaces", Value: snapshot.Digest}, audit.Attribute{Name: "replaces_commit", Value: snapshot.Commit})
	reverted.Commit, reverted.Attributes[2].Value = strings.Repeat("c", 40), `Revert "Let payments settle faster"`
	reverted.Attributes = append(reverted.Attributes, audit.Attribute{Name: "replaces", Value: later.Revision}, audit.Attribute{Name: "replaces_commit", Value: later.Commit},
		audit.Attribute{Name: "decided_before", Value: "2026-10-23T00:00:00Z"})
	m.add(b, &audit.Event{Time: at(23, 1), Kind: audit.KindWriterLost, Attributes: []audit.Attribute{{Name: "writer", Value: a}}},
		&audit.Event{Time: at(23, 2), Kind: audit.KindAdmin, Action: "journal_replayed", Attributes: []audit.Attribute{{Name: "writer", Value: a}, {Name: "events", Value: "3"}}},
		later, reverted,
		&audit.Event{Time: at(24, 0), Kind: audit.KindPolicyRejected, Revision: "sha256:" + strings.Repeat("d", 64), Commit: strings.Repeat("d", 40), Message: "egress/new.rego:3: it does not parse", Attributes: []audit.Attribute{
			{Name: "kind", Value: "does_not_load"}, {Name: "source", Value: "git"}, {Name: "author", Value: "Eve " + hostile + " <eve@acme.example>"}, {Name: "subject", Value: "Open everything"}, {Name: "signature", Value: "verified"}, {Name: "signer", Value: "kim"}}},
		&audit.Event{Time: at(24, 0).Add(time.Hour), Kind: audit.KindPolicyRejected, Commit: strings.Repeat("e", 40), Message: "commit eeee…: it is not signed", Attributes: []audit.Attribute{
			{Name: "kind", Value: "unsigned"}, {Name: "source", Value: "git"}, {Name: "author", Value: "Ada <ada@acme.example>"}, {Name: "signature", Value: "invalid"}}},
		&audit.Event{Time: at(24, 1), Kind: audit.KindNameReassigned, Message: "a name moved"})
	owner, mallory := "role sallyport_owner: alter by owner of audit.events", "login mallory: alter by member of sallyport_owner "+hostile+" → owner of audit.events"
	access := func(when time.Time, message string, changes []string, lines ...string) *audit.Event {
		e := &audit.Event{Time: when, Kind: audit.KindAccessAttested, Message: message, Attributes: []audit.Attribute{{Name: "digest", Value: "sha256:" + message}}}
		e.Attributes = audit.AppendLines(e.Attributes, "changes", audit.OneLine(changes), 20)
		e.Attributes = audit.AppendLines(e.Attributes, "access", audit.OneLine(lines), 60)
		return e
	}
	m.add(b, access(at(22, 23).AddDate(0, 0, -22), "the first attestation", nil, owner), access(at(23, 8), "changed", []string{"+ " + mallory}, mallory, owner), access(at(24, 3), "changed", []string{"- " + mallory}, owner),
		&audit.Event{Time: at(23, 8), Kind: audit.KindSchemaAttested, Message: "changed", Attributes: []audit.Attribute{{Name: "digest", Value: "sha256:x"}, {Name: "result", Value: "differs"},
			{Name: "changes", Value: "+ changed function audit.refuse_change() [12345678]"}, {Name: "differences", Value: "changed function audit.refuse_change() [12345678]"}}})
	m.add(audit.DatabaseWriter, &audit.Event{Time: at(24, 2), Kind: audit.KindExport, Attributes: []audit.Attribute{{Name: "what", Value: "audit query"}, {Name: "rows", Value: "7"}, {Name: "login", Value: "sallyport_auditor"}}},
		&audit.Event{Time: at(24, 3), Kind: audit.KindHoldSet, Attributes: []audit.Attribute{{Name: "first_day", Value: "2025-08-01"}, {Name: "login", Value: "sallyport_auditor"}}})
	m.selfTest(b, 1, at(23, 3))
	m.selfTest(b, 2, at(24, 1))
	m.reconcile(b, at(23, 4), at(23, 3), missingRun("pending", at(22, 20)))
	m.add(b, &audit.Event{Time: at(24, 2), Kind: audit.KindDeploymentUnobserved, WorkspaceUUID: workspaceUUID, RepositoryUUID: repositoryUUID, Repository: "acme/payments",
		Message: "Bitbucket knows of a deployment whose step is not in this log", Attributes: []audit.Attribute{{Name: "deployment_run_uuid", Value: runUUID}, {Name: "class", Value: "unobserved"}}})
	m.secretAges(a, at(22, 6), audit.SecretAge{Name: "webhooks.receivers[policy].secret_file", Kind: "webhook_secret", Since: at(1, 0).AddDate(0, 0, -100)})
	m.secretAges(b, at(23, 6), audit.SecretAge{Name: "webhooks.receivers[policy].secret_file", Kind: "webhook_secret", Since: at(22, 8)},
		audit.SecretAge{Name: "webhooks.listener.tls.certificate_file", Kind: "certificate", Since: at(1, 0), Expires: at(1, 0).AddDate(1, 0, 0)},
		audit.SecretAge{Name: "identity.bitbucket[0].api.token_file", Kind: "api_token"})
	continued := func(hour int, host, reason string, attributes ...audit.Attribute) *audit.Event {
		e := decisionEvent(102, at(23, hour), "", "", host)
		e.Kind, e.Mode, e.Rule, e.CloseReason, e.Input, e.Attributes = audit.KindWouldClose, "report", "observed", reason, nil, attributes
		return e
	}
	m.add(b, continued(4, "fonts.unlisted.example", "hello_encrypted"), continued(5, "fonts.unlisted.example", "hello_encrypted"),
		continued(6, "front.example", "hello_mismatch", audit.Attribute{Name: "server_name", Value: hostile}, audit.Attribute{Name: "further_decision", Value: id(104)}))
	m.add(b, &audit.Event{Time: at(24, 4), Kind: audit.KindWriterEnded})
	m.reconcile(writerC, at(25, 0), at(25, 0), missingRun("unobserved", at(24, 22)), seenRun(at(24, 22)))
	approved := func(when time.Time, e *audit.Event, outcome, detail, approvers string) *audit.Event {
		return &audit.Event{Time: when, Kind: audit.KindPolicyApproval, Revision: e.Revision, Commit: e.Commit, Repository: "acme/egress-policy", Message: detail, Attributes: []audit.Attribute{
			{Name: "outcome", Value: outcome}, {Name: "commits", Value: "1"}, {Name: "pull_request", Value: "12"}, {Name: "title", Value: "Let payments settle " + hostile}, {Name: "destination", Value: "main"},
			{Name: "author_uuid", Value: "0a000000-0000-4000-8000-000000000001"}, {Name: "author", Value: "Ada"}, {Name: "merged_by", Value: "Kim"}, {Name: "approvers", Value: approvers}}}
	}
	m.add(writerC, approved(at(25, 0), loaded(at(25, 0)), "approved", "approved by somebody who wrote none of it", `[{"uuid":"0a000000-0000-4000-8000-000000000002","name":"=cmd|Kim<script>","at":"2026-09-30T12:00:00Z"}]`),
		approved(at(25, 0), later, "self_approved", "pull request 12 was approved by nobody but its authors", `[{"uuid":"0a000000-0000-4000-8000-000000000001","name":"Ada","author":true}]`))
	m.seal(at(25, 0))
	m.grow(200, at(26, 0))
	m.reconcile(writerC, at(26, 2), at(26, 1), missingRun("observed", at(26, 1)))
	m.seal(at(26, 3))
	return m
}

// writerC is at work after the period.
const writerC = "01a1fdf4-0000-7000-8000-00000000000c"

// grow adds events after the period that tests are about.
func (m *memory) grow(n int, when time.Time) {
	m.add(writerC, decisionEvent(n, when, "deny", "no_rule_matched", "later.example"), endEvent(7, when, 5, 5))
	m.seal(when.Add(time.Second))
}

// period is what the tests' packs are about: the log begins before and continues.
var period = pack.Period{From: at(2, 0), To: at(25, 0)}

func options(t testing.TB) Options {
	return Options{
		Period: period, Sample: 5, Seed: "s", Signer: signer(t), Tool: "test", Trust: audit.Trust{Keys: []audit.Key{signer(t).Key()}},
		Exceptions: func(_ context.Context, s *policy.Snapshot) ([]pack.Exception, error) {
			return []pack.Exception{
				{Path: "data.exceptions[0]", Owner: "ada@acme.example", Ticket: "SEC-1", Repository: "acme/website", Hosts: []string{"fonts.unlisted.example", hostile}, Until: "2026-10-10T00:00:00Z"},
				{Path: "data.exceptions[1]", Owner: "", Until: "2026-12-10T00:00:00Z"},
			}, nil
		},
	}
}

// writerKey are the attributes of a start that shows a key.
func writerKey(t testing.TB, s *audit.Signer, writer string) []audit.Attribute {
	t.Helper()
	attributes, err := s.SignWriter(writer)
	if err != nil {
		t.Fatal(err)
	}
	return attributes
}
