package postgres_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/sealertest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	auditsealer "github.com/sallyport/sallyport/audit/postgres/sealer"
	auditwriter "github.com/sallyport/sallyport/audit/postgres/writer"
	"github.com/sallyport/sallyport/internal/database"
)

var measured = flag.Int("measure", 0, "measure the storage of so many decisions, in TestSize")

// realistic is a decision as a gate records it: its input has the values of its fields.
func realistic(n int, at time.Time) *audit.Event {
	at = at.UTC().Truncate(time.Microsecond)
	e := audittest.Decision("allow", n)
	e.Time, e.DecisionID = at, audittest.NewUUID(at)
	if n%20 == 0 {
		e.Verdict, e.Reason, e.Rule, e.Rules, e.Status = "deny", "no_rule_matched", "", nil, 403
		e.DialedAddress, e.Addresses = netip.Addr{}, nil
	}
	if n%3 > 0 { // most steps deploy nothing
		e.Deployment, e.DeploymentUUID, e.DeploymentType = "", "", ""
	}
	e.Commit = fmt.Sprintf("%040x", 0x2bb80d53)
	if n%4 > 0 {
		e.Addresses = e.Addresses[:min(1, len(e.Addresses))]
	}
	principal := `{"kind":"pipeline_step","workspace":{"uuid":"` + e.WorkspaceUUID + `","slug":"` + e.Workspace +
		`"},"repository":{"uuid":"` + e.RepositoryUUID + `","full_name":"` + e.Repository + `","project":"` + e.Project + `"}`
	if e.DeploymentUUID != "" {
		principal += `,"deployment":{"uuid":"` + e.DeploymentUUID + `","name":"Production EU","slug":"` + e.Deployment + `","type":"` + e.DeploymentType + `"}`
	}
	principal += `,"pipeline":{"uuid":"` + e.PipelineUUID + `"},"step":{"uuid":"` + e.StepUUID + `"},"branch":"` + e.Branch + `"}`
	e.Input = []byte(fmt.Sprintf(`{"principal":%s,"action":"connect","target":{"host":%q,"port":%d},"client":{"address":%q},"time":%q}`,
		principal, e.Host, e.Port, e.ClientAddress, at.Format("2006-01-02T15:04:05.999999Z")))
	if !json.Valid(e.Input) {
		panic("the input is not JSON")
	}
	return e
}

// realisticEnd is the end of what a decision allowed.
func realisticEnd(e *audit.Event, n int) *audit.Event {
	return &audit.Event{Time: e.Time.Add(time.Duration(n%100) * time.Second), Kind: audit.KindTunnelClosed, DecisionID: e.DecisionID,
		BytesSent: int64(517 + n%9000), BytesReceived: int64(4000 + n%1_000_000), Duration: time.Duration(n%100)*time.Second + 123456*time.Microsecond,
		CloseReason: "finished", DialedAddress: e.DialedAddress}
}

// recordRealistic records so many decisions, each allowed one with its end, from many
// goroutines, and returns how many events that were a second.
func recordRealistic(t *testing.T, l *auditwriter.Log, decisions int) float64 {
	t.Helper()
	var wg sync.WaitGroup
	const callers = 256
	begun, before := time.Now(), l.Stats().Recorded
	for caller := range callers {
		wg.Go(func() {
			for n := caller; n < decisions; n += callers {
				e := realistic(n, time.Now())
				end := realisticEnd(e, n)
				allowed := e.Verdict == "allow"
				if err := l.Record(context.Background(), e); err != nil {
					t.Error(err)
					return
				}
				if !allowed {
					continue
				}
				if err := l.Record(context.Background(), end); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return float64(l.Stats().Recorded-before) / time.Since(begun).Seconds()
}

// TestSize measures what a decision takes in the database, its end, two leaves and
// all indexes included: go test ./audit/postgres -run '^TestSize$' -measure 500000 -v.
func TestSize(t *testing.T) {
	if *measured == 0 {
		t.Skip("-measure says how many decisions")
	}
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL(database.Writer), func(c *auditwriter.Config) { c.Log = nil })
	t.Logf("%.0f events a second", recordRealistic(t, l, *measured))
	begun := time.Now()
	s := sealertest.Open(t, db.URL(database.Sealer), l, func(c *auditsealer.Config) { c.Signer, c.Log = audittest.NewKey(t, ""), nil })
	audittest.Seal(t, s)
	for s.Status().Sealed < int64(l.Stats().Recorded) {
		audittest.Seal(t, s)
	}
	t.Logf("sealed in %s", time.Since(begun))
	conn := audittest.Connect(t, db.URL(""))
	if _, err := conn.Exec(t.Context(), "VACUUM ANALYZE"); err != nil {
		t.Fatal(err)
	}
	for _, line := range audittest.QueryStrings(t, conn, sizesSQL, float64(*measured)) {
		t.Log(line)
	}
}

// sizesSQL is what tables and indexes take for each of $1 decisions, and what of
// the records and columns of an average row.
const sizesSQL = `
	SELECT format('%s %s bytes a decision', rpad(c.relname, 40), round((pg_relation_size(c.oid) / $1)::numeric, 1))
	FROM pg_class c WHERE c.relnamespace = 'audit'::regnamespace AND pg_relation_size(c.oid) > 65536
	UNION ALL
	SELECT format('%s %s bytes a decision', rpad('all', 40), round((sum(pg_relation_size(c.oid)) / $1)::numeric, 1))
	FROM pg_class c WHERE c.relnamespace = 'audit'::regnamespace
	UNION ALL
	SELECT format('%s %s: %s', rpad(e.kind, 20), rpad(a.key, 20), round(avg(a.value::bigint), 1))
	FROM (SELECT * FROM audit.events WHERE kind IN ('decision', 'tunnel_closed') LIMIT 20000) e
	CROSS JOIN LATERAL jsonb_each_text((SELECT jsonb_object_agg(k.name, k.size) FROM (SELECT 'row' AS name, pg_column_size(e.*) AS size UNION ALL SELECT 'record', pg_column_size(e.record)) k)) a
	GROUP BY e.kind, a.key`
