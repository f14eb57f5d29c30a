package reader

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/sealertest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	"github.com/sallyport/sallyport/internal/database"
)

func askerFor(t testing.TB, url string) *Querier {
	t.Helper()
	a, err := OpenQuerier(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// answers are the writers' numbers of the events that answer a question.
func answers(t testing.TB, a *Querier, q Filter) []string {
	t.Helper()
	q.Columns = []string{"writer_sequence"}
	var got []string
	if _, err := a.Query(t.Context(), &q, func(r Row) error {
		got = append(got, r.Text(0))
		return nil
	}); err != nil {
		t.Fatalf("%+v: %v", q, err)
	}
	return got
}

// varied is an event with few different values in each field.
func varied(r *rand.Rand, at time.Time) *audit.Event {
	pick := func(values ...string) string { return values[r.IntN(len(values))] }
	e := audittest.Decision(pick("allow", "deny"), r.IntN(3))
	e.Time, e.DecisionID = at, audittest.NewUUID(at)
	e.Kind = audit.Kind(pick("decision", "decision", "tunnel_closed"))
	e.Reason, e.Mode, e.WouldDeny = pick("policy_allowed", "policy_denied", "no_rule_matched"), pick("enforce", "report"), r.IntN(3) == 0
	e.Workspace, e.Deployment = pick("acme", "other"), pick("", "production-eu")
	e.Host, e.Port = pick("partner.example", "api.partner.example", "a.b.partner.example", "evilpartner.example", "_.partnerXexample", "%.partner.example"), uint16(440+r.IntN(4))
	e.Rules = slices.Compact([]string{pick("one", "two"), pick("two", "three")})
	e.Rule, e.Revision, e.Commit = e.Rules[0], pick("sha256:aaaa1111", "sha256:bbbb2222"), pick("", "c0ffee00")
	e.ClientAddress = netip.MustParseAddr(pick("10.1.2.3", "10.2.0.1", "2001:db8::1"))
	e.StepUUID = pick("5f0c1d2e-0000-4000-8000-000000000001", "5f0c1d2e-0000-4000-8000-000000000002")
	return e
}

// TestCloseEventsOfMatches: the close events of matching decisions are found, and no
// others, with few, several and many matches.
func TestCloseEventsOfMatches(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	at := time.Now().Add(-time.Hour)
	for i := range 6 {
		id := fmt.Sprintf("019a0000-0000-7000-8000-00000000000%d", i)
		audittest.Record(t, l, &audit.Event{Time: at, Kind: audit.KindDecision, DecisionID: id, Verdict: "allow", Repository: []string{"acme/app", "acme/other"}[i%2]})
		audittest.Record(t, l, &audit.Event{Time: at.Add(time.Second), Kind: audit.KindTunnelClosed, DecisionID: id})
	}
	for ways, bounds := range map[string][2]int{"few": {2000, 50_000}, "several": {0, 50_000}, "many": {0, 1}} {
		a := askerFor(t, db.URL(database.Auditor))
		a.maxFew, a.minMany = bounds[0], bounds[1]
		q := Filter{Repositories: []string{"acme/app"}, Until: at.Add(time.Minute), Oldest: true, Limit: 100}
		if got := answers(t, a, q); !slices.Equal(got, []string{"2", "6", "10", "3", "7", "11"}) {
			t.Errorf("%s: %v", ways, got)
		}
		q.Kinds = []string{string(audit.KindTunnelClosed)}
		if got := answers(t, a, q); !slices.Equal(got, []string{"3", "7", "11"}) {
			t.Errorf("%s, close events: %v", ways, got)
		}
	}
}

// TestExcludeSelfTests: neither a probe nor its end is given, and everything else
// is, the ends of clients' tunnels and the results of self-tests included.
func TestExcludeSelfTests(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	at := time.Now().Add(-time.Hour)
	for i, kind := range []string{"bitbucket_oidc", "self_test", ""} {
		id := fmt.Sprintf("019a0000-0000-7000-8000-00000000000%d", i)
		audittest.Record(t, l, &audit.Event{Time: at, Kind: audit.KindDecision, DecisionID: id, Verdict: "allow", CredentialKind: kind})
		audittest.Record(t, l, &audit.Event{Time: at.Add(time.Second), Kind: audit.KindTunnelClosed, DecisionID: id})
	}
	audittest.Record(t, l, &audit.Event{Time: at, Kind: audit.KindSelfTest})
	a := askerFor(t, db.URL(database.Auditor))
	q := Filter{Until: at.Add(time.Minute), Oldest: true}
	if got := answers(t, a, q); len(got) != 7 {
		t.Errorf("all: %v", got)
	}
	q.ExcludeSelfTests = true
	if got := answers(t, a, q); !slices.Equal(got, []string{"2", "6", "8", "3", "7"}) {
		t.Errorf("without the probe: %v", got)
	}
}

// TestAsk: whatever is asked, the answer is what a loop over all events gives.
func TestAsk(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	r := rand.New(rand.NewPCG(1, 2))
	begin := time.Now().Add(-time.Hour).Truncate(time.Second)
	var events []*audit.Event
	for n := range 300 {
		e := varied(r, begin.Add(time.Duration(r.IntN(3000))*time.Second+time.Duration(n)*time.Microsecond))
		audittest.Record(t, l, e)
		events = append(events, e)
	}
	a := askerFor(t, db.URL(database.Auditor))
	some := func(values ...string) []string {
		if r.IntN(3) > 0 {
			return nil
		}
		return values[:1+r.IntN(len(values))]
	}
	in := func(list []string, values ...string) bool {
		return len(list) == 0 || slices.ContainsFunc(values, func(v string) bool { return slices.Contains(list, v) })
	}
	found := 0
	for range 200 {
		q := Filter{
			Since: begin, Until: begin.Add(time.Hour), Oldest: r.IntN(2) == 0,
			Kinds: some("decision"), Verdicts: some("deny", "allow"), Modes: some("report"), Reasons: some("policy_denied", "no_rule_matched"), Rules: some("two", "three"),
			Workspaces: some("acme"), Repositories: some("acme/payments-1", "11112222-3333-4444-5555-000000000002"), Deployments: some("production-eu"),
			Hosts: some("*.partner.example", "partner.example"), Revisions: some("sha256:aaaa", "c0ff"), Steps: some("5f0c1d2e-0000-4000-8000-000000000002"),
		}
		if r.IntN(3) == 0 {
			q.Ports = []int32{443, 440}
			q.Clients = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("2001:db8::/32")}
			q.Since = begin.Add(20 * time.Minute)
		}
		if r.IntN(4) == 0 {
			no := false
			q.WouldDeny = &no
		}
		want := map[string]bool{}
		for i, e := range events {
			hosted := len(q.Hosts) == 0
			for _, h := range q.Hosts {
				hosted = hosted || e.Host == h || h[0] == '*' && strings.HasSuffix(e.Host, h[1:])
			}
			revised := len(q.Revisions) == 0
			for _, begins := range q.Revisions {
				revised = revised || strings.HasPrefix(e.Revision, begins) || strings.HasPrefix(e.Commit, begins)
			}
			from := len(q.Clients) == 0
			for _, network := range q.Clients {
				from = from || network.Contains(e.ClientAddress)
			}
			if e.Kind == audit.KindTunnelClosed && q.whereDecided(new(arguments)) != "" {
				continue // it has no decision here, which is what these conditions are about
			}
			if !e.Time.Before(q.Since) && hosted && revised && from && in(q.Kinds, string(e.Kind)) && in(q.Verdicts, e.Verdict) && in(q.Modes, e.Mode) &&
				in(q.Reasons, e.Reason) && in(q.Rules, append(slices.Clone(e.Rules), e.Rule)...) && in(q.Workspaces, e.Workspace) && in(q.Repositories, e.Repository, e.RepositoryUUID) &&
				in(q.Deployments, e.Deployment) && in(q.Steps, e.StepUUID) && (q.Ports == nil || slices.Contains(q.Ports, int32(e.Port))) && (q.WouldDeny == nil || !e.WouldDeny) {
				want[fmt.Sprint(i+2)] = true // 1 is the writer's start
			}
		}
		a.maxFew, a.minMany = 2000*r.IntN(2), 1+50_000*r.IntN(2) // each way of reading
		got := answers(t, a, q)
		found += len(got)
		if len(got) != len(want) || slices.ContainsFunc(got, func(n string) bool { return !want[n] }) {
			t.Errorf("%+v: %d events, want %d", q, len(got), len(want))
		}
		if q.Limit = 3; len(got) > 3 {
			if some := answers(t, a, q); !slices.Equal(some, got[:3]) {
				t.Errorf("the first three are %v of %v", some, got)
			}
		}
		var last time.Time
		q.Columns = []string{"time"}
		if _, err := a.Query(t.Context(), &q, func(r Row) error {
			at := r.time(0)
			if !last.IsZero() && (q.Oldest && at.Before(last) || !q.Oldest && at.After(last)) {
				t.Errorf("%v comes after %v", at, last)
			}
			last = at
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if found < 1000 {
		t.Errorf("the questions found %d events together: they ask for nothing", found)
	}
	if one := answers(t, a, Filter{Decisions: []string{events[7].DecisionID}}); !slices.Equal(one, []string{"9"}) {
		t.Errorf("by its id: %v", one)
	}
}

// TestAskColumns: a row has all columns by the names of the table, as the record
// has them, and what is known besides.
func TestAskColumns(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	s := sealertest.Open(t, db.URL(database.Writer), l, sealertest.WithKey(audittest.NewKey(t, "log.example/a")))
	e := audittest.Decision("allow", 1)
	e.Branch, e.Attributes = "\u202emain\x1b[2J", []audit.Attribute{{Name: "a", Value: "b\x00"}}
	audittest.Record(t, l, e)
	for range 3 {
		audittest.Seal(t, s)
	}
	admin := audittest.Connect(t, db.URL(""))
	if _, err := admin.Exec(t.Context(), `INSERT INTO identity.pipelines (pipeline_uuid, repository_uuid, build_number, creator, fetched_at) VALUES ($1, $2, 117, E'Ann\x1b[1m', now())`,
		e.PipelineUUID, e.RepositoryUUID); err != nil {
		t.Fatal(err)
	}
	a := askerFor(t, db.URL(database.Auditor))
	got := map[string]json.RawMessage{}
	q := &Filter{Decisions: []string{e.DecisionID}, Builds: []int64{117}, Columns: Columns(true)}
	if _, err := a.Query(t.Context(), q, func(r Row) error {
		for i := range r.Len() {
			got[r.Name(i)] = r.JSON(nil, i)
			if strings.ContainsAny(r.Text(i), "\x00") || strings.ContainsAny(string(got[r.Name(i)]), "\x1b\u202e") {
				t.Errorf("%s is %s", r.Name(i), got[r.Name(i)])
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	var said map[string]json.RawMessage
	if err := json.Unmarshal(got["record"], &said); err != nil {
		t.Fatal(err)
	}
	for name, want := range said {
		if name != "version" && name != "input" && string(got[name]) != string(want) {
			t.Errorf("%s is %s, and the record says %s", name, got[name], want)
		}
	}
	for name, want := range map[string]string{"build_number": "117", "creator": `"Ann\u001b[1m"`, "leaf": "1", "bytes_sent": "null"} {
		if string(got[name]) != want {
			t.Errorf("%s is %s, want %s", name, got[name], want)
		}
	}
}

// TestAskStops: an answer that is not wanted to its end ends at once, and the
// database continues with nothing.
func TestAskStops(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	admin := audittest.Connect(t, db.URL(""))
	if _, err := admin.Exec(t.Context(), `INSERT INTO audit.events (time, kind, writer, writer_sequence, record)
		SELECT now(), 'admin', 'w', n, convert_to('{"version":1}', 'UTF8') FROM generate_series(1, 20000) n`); err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	for _, cancelled := range []bool{false, true} {
		a := askerFor(t, db.URL(database.Auditor))
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		_, err := a.Query(ctx, &Filter{}, func(Row) error {
			if n++; n == 10 {
				if !cancelled {
					return enough
				}
				cancel()
			}
			return nil
		})
		cancel()
		if cancelled && !errors.Is(err, context.Canceled) || !cancelled && !errors.Is(err, enough) || n > 10 {
			t.Errorf("cancelled %v: %d rows, %v", cancelled, n, err)
		}
		audittest.Eventually(t, "nothing of it is left", func() bool {
			return audittest.QueryValue[int](t, admin, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'sallyport audit' AND state = 'active'`) == 0
		})
	}
}

func TestAskerRecordsAnExport(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	a := askerFor(t, db.URL(database.Auditor))
	n, err := a.RecordExport(t.Context(), Export{What: "audit query", Parameters: []byte(`{"kind":["decision"]}`), Rows: 7, Digest: [32]byte{0xab}, Tool: "sallyport test"})
	if err != nil {
		t.Fatal(err)
	}
	var got string
	if _, err := a.Query(t.Context(), &Filter{Kinds: []string{"export"}, Writers: []string{audit.DatabaseWriter}, Columns: []string{"writer_sequence", "attributes"}}, func(r Row) error {
		got += r.Text(0) + " " + r.Text(1)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf(`%d {"what":"audit query","login":"sallyport_auditor","tool":"sallyport test","rows":"7","digest":"sha256:ab%s","parameters":"{\"kind\":[\"decision\"]}"}`, n, strings.Repeat("0", 62)); got != want {
		t.Errorf("the event says %s\nwant %s", got, want)
	}
}

// TestAttributesOfGarbage: an event whose record is anything but an event does not
// end an answer with its attributes, as the cast in SQL does.
func TestAttributesOfGarbage(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	thief := audittest.Connect(t, db.URL(database.Writer))
	writer := audittest.ActAs(t, thief)
	for i, r := range []string{`\xff`, ``, `[]`, `{"attributes":{"a":"b"}}`, `{"attributes":"\x1b"}`, `{}`, `{"attributes":{"a":"b"}} {`, `null`} {
		audittest.MustExec(t, thief, `INSERT INTO audit.events (time, kind, writer, writer_sequence, record) VALUES (now(), 'decision', $1, $2, $3)`, writer, i+1, []byte(r))
	}
	audittest.Record(t, l, audittest.Decision("deny", 1))
	a := askerFor(t, db.URL(database.Auditor))
	var got []string
	q := Filter{Until: time.Now().Add(time.Hour), Oldest: true, Kinds: []string{"decision"}, Columns: []string{"writer_sequence", "attributes"}}
	if _, err := a.Query(t.Context(), &q, func(r Row) error {
		got = append(got, r.Text(0)+" "+string(r.JSON(nil, 1))+" "+r.Text(1))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	const not = `"not readable: the record is not a JSON object" not readable: the record is not a JSON object`
	want := []string{"1 " + not, "2 " + not, "3 " + not, `4 {"a":"b"} {"a":"b"}`, "5 " + not, "6 null ", "7 " + not, "8 null ", "2 null "}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	// The control is removed: the database reads the attributes.
	if _, err := a.conn.Exec(t.Context(), `SELECT (convert_from(e.record, 'UTF8')::json -> 'attributes')::text FROM audit.events e`); err == nil {
		t.Error("the cast takes everything")
	}
}

// TestLostConnectionsAreRecognized: after each error that ends a connection, another
// connection is tried; after an error of the statement or of the caller, none is.
func TestLostConnectionsAreRecognized(t *testing.T) {
	t.Parallel()
	for _, lost := range []error{
		pgconn.ErrConnClosed, pgx.ErrTxClosed, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, &net.OpError{Op: "read", Err: syscall.ECONNRESET},
		database.ErrFormerPrimary, &pgconn.PgError{Code: "57P01"}, &pgconn.PgError{Code: "08006"}, &pgconn.PgError{Code: "53300"},
	} {
		if wrapped := fmt.Errorf("ask: %w", database.Explain("read", &pgconn.Config{}, lost)); !IsLost(wrapped) {
			t.Errorf("%v: no other connection is tried", wrapped)
		}
	}
	for _, other := range []error{errors.New("another"), context.Canceled, &pgconn.PgError{Code: "42501"}, &pgconn.PgError{Code: "22P02"}} {
		if IsLost(other) {
			t.Errorf("%v: another connection is tried", other)
		}
	}
}
