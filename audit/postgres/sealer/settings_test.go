package sealer

import (
	"errors"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	"github.com/sallyport/sallyport/internal/database"
)

// TestForeignKey: a key of another log is named as that, also where the place of
// publication has the checkpoints of this log; and the key that an operator puts in
// its place is read again.
func TestForeignKey(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	place := &audittest.Shelf{}
	own, foreign := audittest.NewKey(t, "log.example/a"), audittest.NewKey(t, "log.example/b")
	first := sealerFor(t, db.URL(database.Writer), l, withKey(own, place))
	audittest.Seal(t, first)
	if err := first.Close(t.Context()); err != nil { // it is published
		t.Fatal(err)
	}
	present := foreign
	s := sealerFor(t, db.URL(database.Writer), l, func(c *Config) {
		withKey(foreign, place)(c)
		c.ReadSigner = func() (*audit.Signer, error) { return present, nil }
	})
	err := s.Seal(t.Context())
	if !errors.Is(err, ErrNoKey) || errors.Is(err, ErrForked) || !strings.Contains(err.Error(), "put the log's key into the file of audit.signing_key_file") {
		t.Errorf("%v", err)
	}
	present = own
	audittest.Seal(t, s)
}
