package writer

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/readertest"
	"github.com/sallyport/sallyport/audit/postgres/internal/sealertest"
	auditsealer "github.com/sallyport/sallyport/audit/postgres/sealer"
	"github.com/sallyport/sallyport/internal/database"
)

// TestStrangersWritersShowNoKey: a holder of the login that records adds reports that
// look like a server's, under a writer of their own, with a start that is copied from a
// server's. Only the servers' writers show the log's key: that of the instance that makes
// the key, which starts before, and that of an instance which has it.
func TestStrangersWritersShowNoKey(t *testing.T) {
	t.Parallel()
	db, key := audittest.Migrated(t), audittest.NewKey(t, "")
	url := db.URL(database.Writer)
	first := logFor(t, url, nil)
	s := sealertest.Open(t, url, first, func(c *auditsealer.Config) { c.NewSigner = func() (*audit.Signer, error) { return key, nil } })
	audittest.Seal(t, s)
	second := logFor(t, url, func(c *Config) { c.Signer = func() (*audit.Signer, error) { return key, nil } })
	audittest.Record(t, second, &audit.Event{Kind: audit.KindAdmin, Action: "journal_replayed", Attributes: []audit.Attribute{{Name: "events", Value: "3"}}})
	without := logFor(t, url, func(c *Config) { c.Signer = func() (*audit.Signer, error) { return nil, nil } })

	const secret = "a stranger's"
	stranger := "000000000001-" + auditpg.SecretDigest(secret)
	conn := audittest.Connect(t, url)
	audittest.MustExec(t, conn, `SELECT set_config('sallyport.writer_secret', $1, false)`, secret)
	add := func(number int, kind string, attributes string) {
		at := time.Now().UTC().Format("2006-01-02T15:04:05.000000Z")
		audittest.MustExec(t, conn, `INSERT INTO audit.events (time, kind, writer, writer_sequence, record) VALUES ($1::text::timestamptz, $2::text, $3::text, $4::int,
			convert_to(format('{"version":1,"time":"%s","kind":"%s","writer":"%s","writer_sequence":%s,"attributes":%s}', $1::text, $2::text, $3::text, $4::int, $5::text), 'UTF8'))`, at, kind, stranger, number, attributes)
	}
	copied := audittest.QueryValue[string](t, conn, `SELECT convert_from(record, 'UTF8')::json ->> 'attributes' FROM audit.events WHERE writer = $1 AND kind = 'writer_started'`, second.Writer())
	if !strings.Contains(copied, "writer_signature") {
		t.Fatalf("the start of a writer with the key shows no key: %s", copied)
	}
	add(1, "writer_started", copied)
	add(2, "access_attested", `{"result":"complete","digest":"x"}`)
	add(3, "refusals_repeated", `{"count":"7"}`)
	add(4, "events_lost", `{"writer":"`+first.Writer()+`","first":"9","last":"12"}`)
	audittest.Seal(t, s)
	r := readertest.Verify(t, db, audit.Trust{Keys: []audit.Key{key.Key()}})
	want := []audit.UnsignedWriter{{Writer: stranger, Events: 4, Started: true}, {Writer: without.Writer(), Events: 1, Started: true}}
	if !r.Sound() || !slices.Equal(r.Unsigned, want) || r.SignedWriters != 2 || len(r.Lost) != 1 || r.Lost[0].Signed {
		t.Errorf("%d signed, unsigned %+v, lost %+v, %v", r.SignedWriters, r.Unsigned, r.Lost, r.Findings)
	}
}
