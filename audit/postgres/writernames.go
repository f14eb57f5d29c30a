package postgres

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/internal/database"
)

// newestStarted bounds the first events of writers that one query reads.
const newestStarted = 500

const (
	liveSQL = `SELECT DISTINCT substr(application_name, 17) FROM pg_stat_activity
		WHERE datname = current_database() AND application_name LIKE 'sallyport audit _%' AND pg_has_role(usesysid, '` + database.Writer + `', 'MEMBER') LIMIT 10000`
	startedSQL = `SELECT writer FROM audit.events WHERE kind = 'writer_started' AND time BETWEEN now() - interval '25 hours' AND now() + interval '1 minute' ORDER BY time DESC LIMIT $1`
)

// LiveWriters returns the names of the writers that have a session of a login that may
// write. The server's limit of connections bounds them.
func LiveWriters(ctx context.Context, tx pgx.Tx) ([]string, error) {
	return readNames(ctx, tx, liveSQL)
}

// StartedWriters returns the names of the writers that started last, the latest first,
// so that a short run is found soon.
func StartedWriters(ctx context.Context, tx pgx.Tx) ([]string, error) {
	return readNames(ctx, tx, startedSQL, newestStarted)
}

func readNames(ctx context.Context, tx pgx.Tx, sql string, args ...any) ([]string, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("look for writers: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("look for writers: %w", err)
	}
	return names, nil
}

// ApplicationName is what the sessions of a writer are called.
func ApplicationName(writer string) string { return "sallyport audit " + writer }

// NewWriter makes the name of a writer that starts now, and the secret that the
// name is made from: 256 random bits in base64url.
func NewWriter(now time.Time) (name, secret string) {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	secret = base64.RawURLEncoding.EncodeToString(b[:])
	return fmt.Sprintf("%012x-%s", uint64(now.UnixMilli())&(1<<48-1), SecretDigest(secret)), secret
}

// SecretDigest is what follows the time and "-" in the name of a writer with this
// secret: the first 128 bits of its SHA-256 in base64url (RFC 4648 section 5). The
// trigger check_writer computes the same. A secret that is known for its digest
// cannot be found: that is a second preimage.
func SecretDigest(secret string) string {
	digest := sha256.Sum256([]byte(secret))
	return base64.RawURLEncoding.EncodeToString(digest[:16])
}

// IsNamedBy reports whether a session that has shown the secret may add events
// of the writer.
func IsNamedBy(writer, secret string) bool {
	return secret != "" && len(writer) > 13 && writer[13:] == SecretDigest(secret)
}
