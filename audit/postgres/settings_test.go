package postgres

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/database"
)

// TestHostileSettings: the settings of roles change nothing of what is recorded,
// sealed, verified and read back.
func TestHostileSettings(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	db.SetHostile(t, database.Writer, database.Sealer, database.Auditor)
	l := logFor(t, db.URL(database.Writer), nil)
	s := sealerFor(t, db.URL(database.Sealer), l, withKey(newKey(t, "")))
	p := stepOf(repositoryA, stepA)
	for n := range smallGroup + 3 { // by INSERT and by COPY
		refused(t, l, p, n, time.Now())
	}
	odd := decision("allow", 1)
	odd.Message, odd.Host = `\'; DROP TABLE x; -- ü`+"\x00", `a\b.example`
	record(t, l, odd)
	seal(t, s)
	d := openDenials(t, db.URL(database.Writer))
	list, err := d.Denials(t.Context(), p, 100)
	if err != nil || len(list) != smallGroup+3 || list[0].Time.Location() != time.UTC {
		t.Errorf("%d denials, %v", len(list), err)
	}
	rows := answers(t, askerFor(t, db.URL(database.Auditor)), Filter{})
	if len(rows) < smallGroup+4 {
		t.Errorf("query answers %d rows", len(rows))
	}
	report := verify(t, db, audit.Trust{})
	proven(t, report, report.Leaves, report.Unsealed)
	if report.Leaves < smallGroup+4 {
		t.Errorf("%d leaves", report.Leaves)
	}
}

// TestForeignKey: a key of another log is named as that, also where the place of
// publication has the checkpoints of this log; and the key that an operator puts in
// its place is read again.
func TestForeignKey(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	l := logFor(t, db.URL(database.Writer), nil)
	place := &shelf{}
	own, foreign := newKey(t, "log.example/a"), newKey(t, "log.example/b")
	first := sealerFor(t, db.URL(database.Writer), l, withKey(own, place))
	seal(t, first)
	if err := first.Close(t.Context()); err != nil { // it is published
		t.Fatal(err)
	}
	present := foreign
	s := sealerFor(t, db.URL(database.Writer), l, func(c *SealerConfig) {
		withKey(foreign, place)(c)
		c.ReadSigner = func() (*audit.Signer, error) { return present, nil }
	})
	err := s.Seal(t.Context())
	if !errors.Is(err, ErrNoKey) || errors.Is(err, ErrForked) || !strings.Contains(err.Error(), "put the log's key into the file of audit.signing_key_file") {
		t.Errorf("%v", err)
	}
	present = own
	seal(t, s)
}
