// Package writertest opens logs for the tests of other packages.
package writertest

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	auditwriter "github.com/sallyport/sallyport/audit/postgres/writer"
)

// Open opens a log on a database, with a patience that a slow machine needs. The
// end of the test closes it.
func Open(t testing.TB, url string, change func(*auditwriter.Config)) *auditwriter.Log {
	t.Helper()
	config := auditwriter.Config{URL: url, Version: "test", Deadline: time.Minute, Log: audittest.Logger(t)}
	if change != nil {
		change(&config)
	}
	l, err := auditwriter.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { audittest.Close(t, l) })
	return l
}
