// Package sealertest opens sealers for the tests of other packages.
package sealertest

import (
	"context"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	auditsealer "github.com/sallyport/sallyport/audit/postgres/sealer"
	"github.com/sallyport/sallyport/internal/database"
)

// Open opens a sealer beside a log. Tests call Seal; nothing else seals.
func Open(t testing.TB, url string, l audittest.Log, change func(*auditsealer.Config)) *auditsealer.Sealer {
	t.Helper()
	// The URL may name the login of the log.
	url = strings.Replace(url, database.Writer, database.Sealer, 1)
	config := auditsealer.Config{URL: url, Writer: l.Writer, Record: l.Record, Log: audittest.Logger(t)}
	if change != nil {
		change(&config)
	}
	s, err := auditsealer.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // nothing more is sealed
		_ = s.Close(ctx)
	})
	return s
}

// WithKey configures a key and places of publication.
func WithKey(signer *audit.Signer, places ...auditsealer.Publisher) func(*auditsealer.Config) {
	return func(c *auditsealer.Config) { c.Signer, c.Publishers = signer, places }
}
