package docs_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	auditsealer "github.com/sallyport/sallyport/audit/postgres/sealer"
	auditwriter "github.com/sallyport/sallyport/audit/postgres/writer"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/policy"
)

// october is a month of a small organization. Times are UTC; a line without a
// verdict is not a decision.
//
//	when  step  repository/deployment  host:port  outcome  from  sent received
const october = `
07-01T09:00 s01 tools            old.partner.example:443      allow legacy-partner            A 10.1.0.1     10      10
09-20T09:00 s02 payments/production api.partner.example:443  allow settle-with-partner       A 10.1.0.2    100     100
10-02T10:00 s03 payments/production api.partner.example:443  allow settle-with-partner       A 10.1.0.3   1000    5000
10-05T11:00 s04 payments/production api.partner.example:443  allow settle-with-partner       A 10.1.0.4   2000     100
10-05T12:00 s05 payments/staging api.partner.example:443      deny  no_rule_matched           A 10.1.0.5
10-06T08:00 s06 website          fonts.cdn.example:443        report no_rule_matched observed A 10.1.0.6     50    7000
10-07T08:00 s07 website          raw.paste.example:443        deny  policy_denied no-paste    A 10.1.0.7
10-08T08:00 s08 payments/production mirror.packages.example:443 allow shared-registries      A 10.1.0.8    300   90000
10-16T10:00 s09 payments/production api.partner.example:443  allow settle-with-partner       B 10.1.0.9   4000    4000
10-17T10:00 s10 payments/production files.newcomer.example:443 allow settle-with-partner     B 10.1.0.10 9000000    10
10-18T10:00 s11 payments/production api.partner.example:443  allow settle-with-partner       B 10.1.0.11     1       1
10-18T10:05 s11 payments/production api.partner.example:443  allow settle-with-partner       B 10.9.9.9      2       2
10-19T10:00 s12 website          git.partner.example:22       any   git-over-ssh              B 10.1.0.12   500     600
10-20T10:00 s13 website          203.0.113.9:443              allow by-address                B 10.1.0.13     7       7
10-21T10:00 -   -                api.partner.example:443      deny  credential_expired        - 10.1.0.14
10-21T10:01 -   -                api.partner.example:443      deny  credential_expired        - 10.1.0.14
10-22T10:00 -   -                api.partner.example:443      deny  credential_signature      - 10.6.6.6
10-23T10:00 s14 website          metadata.partner.example:443 deny  address_prohibited        B 10.1.0.15
10-24T10:00 s15 payments/production api.partner.example:443  open  settle-with-partner       B 10.1.0.16
10-28T10:00 s20 website          198.51.100.7:443             deny  address_prohibited        B 10.1.0.21
11-02T10:00 s16 payments/production late.partner.example:443 allow settle-with-partner       B 10.1.0.17     1       1
11-03T10:00 s17 tools            old.partner.example:443      allow legacy-partner            B 10.1.0.18     1       1
07-02T09:00 s18 website          old.cdn.example:443          report no_rule_matched -        A 10.1.0.19     1       1
07-03T09:00 s19 website          raw.gist.example:443         deny  policy_denied no-gists    A 10.1.0.20
`

var (
	repositories = map[string]string{"payments": "11111111-0000-4000-8000-000000000001", "website": "11111111-0000-4000-8000-000000000002", "tools": "11111111-0000-4000-8000-000000000003"}
	deployments  = map[string]string{"production": "22222222-0000-4000-8000-000000000001", "staging": "22222222-0000-4000-8000-000000000002"}
)

// seedMonth writes the month through the real writer, seals it, and does to the
// log what people do: it is exported from, and held.
func seedMonth(t *testing.T) *pgtest.DB {
	t.Helper()
	db := pgtest.NewFrom(t, "sallyport", func(ctx context.Context, url string) error {
		_, _, err := database.Migrate(ctx, url, nil)
		return err
	})
	// A clone of a template has not the template's privileges on the database.
	admin, err := pgx.Connect(t.Context(), db.URL(""))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(context.Background())
	if _, err := admin.Exec(t.Context(), `DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO sallyport_owner', current_database()); END $$`); err != nil {
		t.Fatal(err)
	}
	private, err := audit.GenerateKey("acme.example/egress")
	if err != nil {
		t.Fatal(err)
	}
	seedInto(t, db.URL, private)
	return db
}

// withKey is an instance that has a key.
func withKey(private string) func() (*audit.Signer, error) {
	return func() (*audit.Signer, error) { return audit.ParseSigner(private) }
}

// seedInto is seedMonth for a database with a schema, and with a key of the log's.
func seedInto(t *testing.T, url func(user string) string, private string, publishers ...auditsealer.Publisher) {
	t.Helper()
	l, err := auditwriter.Open(t.Context(), auditwriter.Config{URL: url(database.Writer), Version: "test", Deadline: time.Minute, Signer: withKey(private)})
	if err != nil {
		t.Fatal(err)
	}
	s := &seeder{t: t, log: l}
	s.policies()
	for line := range strings.Lines(strings.TrimSpace(october)) {
		s.ask(strings.Fields(line))
	}
	s.probes("10-12T04:00", 0x70)
	s.activate("10-30T08:00", "A", "B", "kim") // the branch is set back
	s.activate("10-31T08:00", "C", "A", "ann")
	s.networkCheck("09-30T23:00", "error")
	s.networkCheck("10-20T10:00", "blocked")
	s.networkCheck("10-27T10:00", "open")
	s.networkCheck("11-01T00:00", "open")
	s.approve("10-15T08:01", "B", "self_approved", 12, "pull request 12 was approved by its authors only", `[{"uuid":"0a000000-0000-4000-8000-000000000002","name":"Ann","author":true}]`)
	s.approve("07-01T08:01", "A", "approved", 11, "approved by an account that wrote none of it", `[{"uuid":"0a000000-0000-4000-8000-000000000003","name":"Bob"}]`)
	s.approve("10-31T08:01", "C", "approved", 13, "approved by an account that wrote none of it", `[{"uuid":"0a000000-0000-4000-8000-000000000003","name":"Bob"}]`)
	s.operations("10")
	s.attestations("10")
	// The months before and after are like it, at other places: what is asked about
	// October must not count them.
	for _, month := range []string{"09", "11"} {
		for line := range strings.Lines(strings.TrimSpace(october)) {
			if f := strings.Fields(line); strings.HasPrefix(f[0], "10-") {
				f[0], f[3] = month+f[0][2:], "m"+month+"."+f[3]
				if f[1] != "-" {
					f[1] = "s" + month[1:] + f[1][2:]
				}
				s.ask(f)
			}
		}
		s.activate(month+"-14T08:00", month, "", "eve")
		s.probes(month+"-12T04:00", 0x70+int(month[1])*2)
		s.operations(month)
		s.attestations(month)
		s.record(&audit.Event{Time: s.at(month + "-15T08:00"), Kind: audit.KindPolicyRejected, Revision: "sha256:other", Message: "month " + month})
	}
	seal(t, l, url, private, publishers...)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := l.Close(ctx); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), url(database.Auditor))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), `SELECT audit.record_export('audit query', '{"verdict":["deny"]}', 7, sha256('seven rows'), 'sallyport 1.0')`); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `SELECT audit.set_hold('2026-10-01', '2026-10-31', 'audit of 2026')`); err != nil {
		t.Fatal(err)
	}
}

type seeder struct {
	t         *testing.T
	log       *auditwriter.Log
	revisions map[string]policy.Revision
	numbers   int
}

func (s *seeder) record(e *audit.Event) {
	s.t.Helper()
	if err := s.log.Record(s.t.Context(), e); err != nil {
		s.t.Fatal(err)
	}
}

func (s *seeder) at(text string) time.Time {
	s.t.Helper()
	at, err := time.Parse("2006-01-02T15:04", "2026-"+text)
	if err != nil {
		s.t.Fatal(err)
	}
	return at
}

// firstRego is the policy, and differs by a name.
const firstRego = `package sallyport.egress

# Settlement with our partner, from production deployments only (%s).
allow contains {"rule": "settle-with-partner", "message": "settlement"} if {
	input.target.host == "api.partner.example"
	input.principal.deployment.type == "production"
}
`

// policies keeps three revisions: one that decides, one that follows it, and one
// that is refused.
func (s *seeder) policies() {
	s.revisions = map[string]policy.Revision{}
	for _, name := range []string{"A", "B", "C", "09", "11"} {
		snapshot, err := policy.NewSnapshot([]policy.File{{Path: "egress/first.rego", Content: []byte(fmt.Sprintf(firstRego, name))}}, strings.Repeat(strings.ToLower(name), 40/len(name)))
		if err != nil {
			s.t.Fatal(err)
		}
		s.revisions[name] = policy.Revision{Digest: snapshot.Digest, Commit: snapshot.Commit}
		if err := s.log.PutPolicy(s.t.Context(), snapshot.Digest, snapshot.Content()); err != nil {
			s.t.Fatal(err)
		}
	}
	s.activate("07-01T08:00", "A", "", "kim")
	s.activate("10-15T08:00", "B", "A", "ann")
	s.record(&audit.Event{Time: s.at("10-20T08:00"), Kind: audit.KindPolicyRejected, Revision: "sha256:refused", Commit: strings.Repeat("c", 40), Message: "2 tests failed",
		Attributes: []audit.Attribute{{Name: "kind", Value: "tests_failed"}, {Name: "source", Value: policyRepository}, {Name: "author", Value: "Eve <eve@acme.example>"}, {Name: "signature", Value: "invalid"}}})
}

const policyRepository = "git https://bitbucket.org/acme/egress-policy.git branch main"

// activate records that a revision of Git began to decide.
func (s *seeder) activate(when, name, before, signer string) {
	s.t.Helper()
	attributes := []audit.Attribute{{Name: "source", Value: policyRepository}, {Name: "author", Value: signer + " <" + signer + "@acme.example>"}, {Name: "signature", Value: "verified"}, {Name: "signer", Value: signer + "@acme.example"}}
	if before != "" {
		attributes = append(attributes, audit.Attribute{Name: "replaces", Value: s.revisions[before].Digest}, audit.Attribute{Name: "replaces_commit", Value: s.revisions[before].Commit})
	}
	s.record(&audit.Event{Time: s.at(when), Kind: audit.KindPolicyLoaded, Revision: s.revisions[name].Digest, Commit: s.revisions[name].Commit, Attributes: attributes})
}

// approve records who approved the pull request of a revision.
func (s *seeder) approve(when, name, outcome string, pull int, detail, approvers string) {
	s.t.Helper()
	s.record(&audit.Event{Time: s.at(when), Kind: audit.KindPolicyApproval, Revision: s.revisions[name].Digest, Commit: s.revisions[name].Commit, Repository: "acme/egress-policy", Message: detail,
		Attributes: []audit.Attribute{{Name: "outcome", Value: outcome}, {Name: "commits", Value: "1"}, {Name: "pull_request", Value: fmt.Sprint(pull)}, {Name: "title", Value: "Change " + name}, {Name: "destination", Value: "main"},
			{Name: "author", Value: "Ann"}, {Name: "author_uuid", Value: "0a000000-0000-4000-8000-000000000002"}, {Name: "merged_by", Value: "Ann"}, {Name: "approvers", Value: approvers}}})
}

// ask records the decision of a line, and its end.
func (s *seeder) ask(f []string) {
	s.t.Helper()
	s.numbers++
	at, verdict, reason, rule := s.at(f[0]), f[4], f[5], ""
	rest := f[6:]
	if verdict == "allow" || verdict == "any" || verdict == "open" {
		reason, rule = "policy_allowed", f[5]
	} else if verdict == "report" || reason == "policy_denied" {
		rule, rest = f[6], f[7:]
	}
	host, port, _ := strings.Cut(f[3], ":")
	id := fmt.Sprintf("019a0000-0000-7000-8000-%012x", s.numbers)
	e := audit.Event{
		Time: at, Kind: audit.KindDecision, DecisionID: id, Action: "connect", Scheme: "https", Host: host, Listener: "127.0.0.1:3128",
		Verdict: "deny", Mode: "enforce", Reason: reason, Rule: rule, Status: 403, ClientAddress: netip.MustParseAddr(rest[1]),
	}
	_, _ = fmt.Sscan(port, &e.Port)
	if rule == "-" {
		e.Rule = ""
	} else if rule != "" {
		e.Rules = []string{rule}
	}
	if revision, ok := s.revisions[rest[0]]; ok {
		e.Revision, e.Commit = revision.Digest, revision.Commit
	}
	if f[2] != "-" {
		s.who(&e, f[1], f[2])
	}
	if verdict != "deny" {
		e.Verdict, e.Status, e.DialedAddress = "allow", 200, netip.MustParseAddr("203.0.113.7")
	}
	switch verdict {
	case "report":
		e.Mode, e.WouldDeny = "report", true
	case "any":
		e.Scheme = ""
	}
	if e.Verdict == "allow" && rule == "git-over-ssh" {
		e.AddExceptions([]audit.AppliedException{{Path: "data.exceptions.list[0]", Owner: "ann@acme.example", Ticket: "OPS-17", Hosts: []string{"git.partner.example:22"}, Until: s.at("10-29T00:00")}})
	}
	if host == "metadata.partner.example" { // it applied, and the address was refused
		e.AddExceptions([]audit.AppliedException{{Path: "data.exceptions.list[1]", Owner: "bob@acme.example", Ticket: "OPS-18", Until: s.at("12-29T00:00")}})
	}
	s.record(&e)
	if len(rest) < 4 {
		return
	}
	end := audit.Event{Time: at.Add(time.Minute), Kind: audit.KindTunnelClosed, DecisionID: id, Duration: time.Minute, CloseReason: "finished", DialedAddress: e.DialedAddress}
	_, _ = fmt.Sscan(rest[2], &end.BytesSent)
	_, _ = fmt.Sscan(rest[3], &end.BytesReceived)
	s.record(&end)
}

// probes records a self-test: two decisions about probes, the end of one, and the
// result.
func (s *seeder) probes(when string, number int) {
	s.t.Helper()
	at := s.at(when)
	ids := [2]string{fmt.Sprintf("019a0000-0000-7000-8000-%012x", number), fmt.Sprintf("019a0000-0000-7000-8000-%012x", number+1)}
	for i, id := range ids {
		e := audit.Event{
			Time: at, Kind: audit.KindDecision, DecisionID: id, Action: "connect", Scheme: "https", Host: []string{"refused", "echo"}[i] + ".self-test.invalid", Port: 443,
			Listener: "127.0.0.1:3128", ClientAddress: netip.MustParseAddr("127.0.0.1"), Issuer: "self-test.invalid", CredentialKind: "self_test",
			StepUUID: "33333333-0000-4000-8000-00000000009" + fmt.Sprint(i), Verdict: "deny", Mode: "enforce", Reason: "no_rule_matched", Status: 403,
			Revision: s.revisions["A"].Digest, Commit: s.revisions["A"].Commit,
		}
		if i == 1 {
			e.Verdict, e.Reason, e.Rule, e.Rules, e.Status = "allow", "policy_allowed", "self-test", []string{"self-test"}, 200
		}
		s.record(&e)
	}
	s.record(&audit.Event{Time: at.Add(time.Second), Kind: audit.KindTunnelClosed, DecisionID: ids[1], Duration: time.Second, CloseReason: "finished", BytesSent: 9, BytesReceived: 9})
	s.record(&audit.Event{Time: at.Add(time.Second), Kind: audit.KindSelfTest, Revision: s.revisions["A"].Digest,
		Attributes: []audit.Attribute{{Name: "outcome", Value: "passed"}, {Name: "refused_decision_id", Value: ids[0]}, {Name: "allowed_decision_id", Value: ids[1]}}})
}

func (s *seeder) who(e *audit.Event, step, where string) {
	repository, deployment, _ := strings.Cut(where, "/")
	e.Issuer, e.CredentialKind = "https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc", "bitbucket_oidc"
	e.WorkspaceUUID, e.Workspace, e.Project, e.Branch = "922e118c-f34f-4226-a897-0e0afbec553d", "acme", "ACME", "main"
	e.RepositoryUUID, e.Repository = repositories[repository], "acme/"+repository
	e.StepUUID, e.PipelineUUID = "33333333-0000-4000-8000-0000000000"+step[1:], "44444444-0000-4000-8000-0000000000"+step[1:]
	if deployment != "" {
		e.DeploymentUUID, e.Deployment, e.DeploymentType = deployments[deployment], deployment, deployment
	}
}

// operations records what is not a decision.
func (s *seeder) operations(month string) {
	s.record(&audit.Event{Time: s.at(month + "-22T08:00"), Kind: audit.KindExceptionExpiring, Repository: "acme/website", Message: "an exception ends at 2026-10-29T00:00:00Z", Attributes: []audit.Attribute{
		{Name: "path", Value: "exceptions/git-over-ssh/" + month}, {Name: "owner", Value: "ann@acme.example"}, {Name: "ticket", Value: "OPS-17"}, {Name: "until", Value: "2026-10-29T00:00:00Z"}}})
	s.record(&audit.Event{Time: s.at(month + "-25T08:00"), Kind: audit.KindAdmin, Action: "token_revoked", Message: "token in a public log of " + month, StepUUID: "33333333-0000-4000-8000-000000000011",
		Attributes: []audit.Attribute{{Name: "operator", Value: "bob"}, {Name: "operator_uid", Value: "1001"}}})
	s.record(&audit.Event{Time: s.at(month + "-26T08:00"), Kind: audit.KindWriterLost, Attributes: []audit.Attribute{
		{Name: "writer", Value: "01a1f0c0" + month + "00-uYHbGqT0zD4nJmVwOePcRA"}, {Name: "last_sequence", Value: "41"}, {Name: "last_event", Value: "2026-" + month + "-26T07:59:40Z"}}})
	s.record(&audit.Event{Time: s.at(month + "-26T09:00"), Kind: audit.KindUnrecordedTotals, Message: "7 attempts were refused without an event of their own", Attributes: []audit.Attribute{
		{Name: "from", Value: "2026-" + month + "-26T08:50:00Z"}, {Name: "to", Value: "2026-" + month + "-26T09:00:00Z"}, {Name: "total", Value: "7"},
		{Name: "credential_missing", Value: "5"}, {Name: "head_timeout", Value: "2"}}})
	s.record(&audit.Event{Time: s.at(month + "-27T08:00"), Kind: audit.KindNameReassigned, WorkspaceUUID: "922e118c-f34f-4226-a897-0e0afbec553d",
		Attributes: []audit.Attribute{{Name: "kind", Value: "repository"}, {Name: "name", Value: "acme/tools"}}})
}

// attestations record who could reach the log: a login comes and goes.
func (s *seeder) attestations(month string) {
	const owner, reader = "role sallyport_owner: alter by owner of audit.events and others", "login sallyport_auditor: read by SELECT on audit.events and others"
	mallory := "login mallory_" + month + ": alter by member of sallyport_owner (NOINHERIT: by SET ROLE) → owner of audit.events and others"
	for _, one := range []struct {
		at, kind string
		changes  []string
		lines    []string
	}{
		{"-13T08:00", string(audit.KindAccessAttested), nil, []string{owner}},
		{"-14T08:00", string(audit.KindAccessAttested), []string{"+ " + mallory, "+ " + reader}, []string{mallory, owner, reader}},
		{"-14T08:05", string(audit.KindSchemaAttested), []string{"+ changed function audit.refuse_change() [0a1b2c3d]"}, []string{"changed function audit.refuse_change() [0a1b2c3d]"}},
		{"-15T08:00", string(audit.KindAccessAttested), []string{"- " + mallory}, []string{owner, reader}},
		{"-15T08:05", string(audit.KindSchemaAttested), []string{"- changed function audit.refuse_change() [0a1b2c3d]"}, []string{"added view audit.mine_" + month + " [0a1b2c3d]"}},
	} {
		e := &audit.Event{Time: s.at(month + one.at), Kind: audit.Kind(one.kind), Message: "changed", Attributes: []audit.Attribute{{Name: "digest", Value: "sha256:" + one.at}}}
		e.Attributes = audit.AppendLines(e.Attributes, "changes", audit.OneLine(one.changes), 20)
		e.Attributes = audit.AppendLines(e.Attributes, map[bool]string{true: "access", false: "differences"}[one.kind == string(audit.KindAccessAttested)], audit.OneLine(one.lines), 60)
		s.record(e)
	}
}

// seal seals everything but what is recorded after it.
func seal(t *testing.T, l *auditwriter.Log, url func(user string) string, private string, publishers ...auditsealer.Publisher) {
	t.Helper()
	if err := sealWith(t, l, url, private, publishers...); err != nil {
		t.Fatal(err)
	}
}

// sealWith returns what the sealer could not do.
func sealWith(t *testing.T, l *auditwriter.Log, url func(user string) string, private string, publishers ...auditsealer.Publisher) (err error) {
	t.Helper()
	signer, err := audit.ParseSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := auditsealer.Open(auditsealer.Config{URL: url(database.Sealer), Writer: l.Writer, Record: l.Record, Signer: signer, Publishers: publishers, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // what the first records is sealed by the second
		err = sealer.Seal(t.Context())
	}
	return errors.Join(err, sealer.Close(t.Context()))
}

// networkCheck records what a step of acme/payments stated about its network.
func (s *seeder) networkCheck(at, outcome string) {
	s.t.Helper()
	e := &audit.Event{Time: s.at(at), Kind: audit.KindNetworkChecked, Listener: "127.0.0.1:3128", WorkspaceUUID: "0a000000-0000-4000-8000-00000000000a",
		RepositoryUUID: "0a000000-0000-4000-8000-00000000000b", StepUUID: "0a000000-0000-4000-8000-00000000000c", Workspace: "acme", Repository: "acme/payments",
		Deployment: "production", Attributes: []audit.Attribute{{Name: "outcome", Value: outcome}, {Name: "tests", Value: "direct_tcp, dns"}}}
	if outcome == "open" {
		e.Attributes = append(e.Attributes, audit.Attribute{Name: "open_results", Value: "dns 192.0.2.53:53 udp4: answered"})
	}
	s.record(e)
}
