package sealer

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	"github.com/sallyport/sallyport/internal/database"
)

// attestations are the attributes of the events of a kind, in their order.
func attestations(t *testing.T, url string, kind audit.Kind) (all []map[string]string) {
	t.Helper()
	for _, record := range audittest.QueryStrings(t, audittest.Connect(t, url), `SELECT convert_from(record, 'UTF8') FROM audit.events WHERE kind = $1 ORDER BY writer, writer_sequence`, string(kind)) {
		all = append(all, audittest.AttributesOf(t, []byte(record)))
	}
	return all
}

// TestAttest: the schema and the access to the log are recorded at the start, when
// they change and after a day, with what changed, and not in between.
func TestAttest(t *testing.T) { // not parallel: roles and their settings belong to the whole server
	db := audittest.Migrated(t)
	admin := audittest.Connect(t, db.URL(""))
	l := writertest.Open(t, db.URL(database.Writer), nil)
	attester := func() *Attester {
		a, err := NewAttester(AttesterConfig{URL: db.URL(database.Writer), Record: l.Record})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := attester()
	attest := func(a *Attester, schema, access int) (latest, latestAccess map[string]string) {
		t.Helper()
		if err := a.Attest(t.Context()); err != nil {
			t.Fatal(err)
		}
		s, c := attestations(t, db.URL(""), audit.KindSchemaAttested), attestations(t, db.URL(""), audit.KindAccessAttested)
		if len(s) != schema || len(c) != access {
			t.Fatalf("%d and %d attestations, want %d and %d", len(s), len(c), schema, access)
		}
		return s[len(s)-1], c[len(c)-1]
	}
	first, access := attest(a, 1, 1)
	if known := first["result"] == "as_installed" && first["digest"] == first["expected"]; !known && first["server_version"] == "15" || first["differences"] != "" {
		t.Errorf("%v", first)
	}
	if all := strings.Join(audit.Lines(access, "access"), "\n"); !strings.Contains(all, "role sallyport_owner: alter by owner of schema audit, identity, sallyport") || !strings.Contains(all, "superuser") {
		t.Errorf("%s", all)
	}
	attest(a, 1, 1) // nothing changed

	// A login that is added and removed again while no attester runs is
	// seen where an attestation is made in between.
	for _, sql := range []string{
		`CREATE ROLE attest_mallory LOGIN NOINHERIT IN ROLE sallyport_owner`,
		`ALTER TABLE audit.policies DISABLE TRIGGER refuse_row_change`,
	} {
		if _, err := admin.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		conn, err := pgx.Connect(context.Background(), db.URL(""))
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close(context.Background())
		_, _ = conn.Exec(context.Background(), "DROP ROLE IF EXISTS attest_mallory")
	})
	changed, access := attest(a, 2, 2)
	if changed["previous"] != first["digest"] || changed["server_version"] == "15" && (changed["result"] != "differs" || !strings.HasPrefix(changed["changes"], "+ changed trigger audit.policies.refuse_row_change [")) {
		t.Errorf("%v", changed)
	}
	if want := "+ login attest_mallory: alter by member of sallyport_owner (NOINHERIT: by SET ROLE) → owner of schema audit, identity, sallyport and others"; !slices.Contains(audit.Lines(access, "changes"), want) {
		t.Errorf("%v", audit.Lines(access, "changes"))
	}
	if st := a.Status(); st.Known && len(st.Differences) != 1 || st.At.IsZero() || st.Err != nil {
		t.Errorf("%+v", st)
	}
	for _, sql := range []string{`DROP ROLE attest_mallory`, `ALTER TABLE audit.policies ENABLE ALWAYS TRIGGER refuse_row_change`} {
		if _, err := admin.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	back, access := attest(a, 3, 3)
	if back["digest"] != first["digest"] || back["server_version"] == "15" && !strings.HasPrefix(back["changes"], "- changed trigger audit.policies.refuse_row_change [") {
		t.Errorf("%v", back)
	}
	for _, line := range audit.Lines(access, "changes") {
		if !strings.HasPrefix(line, "- login attest_mallory: ") {
			t.Errorf("%s", line)
		}
	}
	attest(attester(), 4, 4) // another start
	a.config.Every = time.Nanosecond
	attest(a, 5, 5) // a day later
}

// TestAttestationsAreBounded: a cluster with very many roles makes an event that the
// log takes, which states how much it leaves out, and whose digest covers all.
func TestAttestationsAreBounded(t *testing.T) {
	t.Parallel()
	var lines []string
	for i := range 5000 {
		lines = append(lines, fmt.Sprintf("login x%04d: read by SELECT on audit.events; %s", i, strings.Repeat("é", i%1500)))
	}
	made := accessAttestation(lines)
	e := made.event(map[string]string{"digest": "sha256:other", "access": "login gone: read by x"})
	e.Normalise()
	if len(e.Attributes) > 99 {
		t.Errorf("%d attributes", len(e.Attributes))
	}
	attributes := map[string]string{}
	for _, a := range e.Attributes {
		if len(a.Value) > 2048 || strings.HasSuffix(a.Value, "…") && len(a.Value) > 2000 {
			t.Errorf("%s has %d bytes", a.Name, len(a.Value))
		}
		attributes[a.Name] = a.Value
	}
	if attributes["access_left_out"] == "" || attributes["changes_left_out"] == "" || attributes["digest"] == accessAttestation(lines[:4999]).digest {
		t.Errorf("%v", attributes["digest"])
	}
	if kept := audit.Lines(attributes, "access"); len(kept) < 50 || !slices.Equal(kept, made.lines[:len(kept)]) {
		t.Errorf("%d lines are read back", len(kept))
	}
}
