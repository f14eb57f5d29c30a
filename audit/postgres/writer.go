package postgres

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"time"
)

// newWriter makes the name of a writer that starts now, and the secret that the
// name is made from: 256 random bits in base64url.
func newWriter(now time.Time) (name, secret string) {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	secret = base64.RawURLEncoding.EncodeToString(b[:])
	return fmt.Sprintf("%012x-%s", uint64(now.UnixMilli())&(1<<48-1), secretDigest(secret)), secret
}

// secretDigest is what follows the time and "-" in the name of a writer with this
// secret: the first 128 bits of its SHA-256 in base64url (RFC 4648 section 5). The
// trigger check_writer computes the same. A secret that is known for its digest
// cannot be found: that is a second preimage.
func secretDigest(secret string) string {
	digest := sha256.Sum256([]byte(secret))
	return base64.RawURLEncoding.EncodeToString(digest[:16])
}

// isNamedBy reports whether a session that has shown the secret may add events
// of the writer.
func isNamedBy(writer, secret string) bool {
	return secret != "" && len(writer) > 13 && writer[13:] == secretDigest(secret)
}

// openSession opens a session that may write as this writer.
func (l *Log) openSession(ctx context.Context) (*session, error) {
	s, err := openSessionWithin(ctx, l.connect, l.config.WriteTimeout)
	if err != nil {
		return nil, err
	}
	if err := s.authenticate(ctx, l.secret); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// authenticate lets this session write under the names that are made from the
// secret, and no others. The secret is a parameter of the protocol, whatever
// the connection string says of simple queries: other sessions of the login see
// the text of a query in pg_stat_activity.
func (s *session) authenticate(ctx context.Context, secret string) error {
	result := s.conn.PgConn().ExecParams(ctx, `SELECT set_config('sallyport.writer_secret', $1, false)`, [][]byte{[]byte(secret)}, nil, nil, nil).Read()
	if result.Err != nil {
		return fmt.Errorf("show the secret of the writer: %w", result.Err)
	}
	return nil
}

// showPrevious lets this session add a first event that names writers as those
// which it continues: it shows that this process knows their secrets.
func (s *session) showPrevious(ctx context.Context, secrets ...string) error {
	result := s.conn.PgConn().ExecParams(ctx, `SELECT set_config('sallyport.previous_writer_secrets', $1, false)`, [][]byte{[]byte(strings.Join(secrets, " "))}, nil, nil, nil).Read()
	if result.Err != nil {
		return fmt.Errorf("show the secrets of the previous writers: %w", result.Err)
	}
	return nil
}

// authenticateLeft lets this session write as the writer of a journal that an
// earlier process left.
func (s *session) authenticateLeft(ctx context.Context, writer, secret string) error {
	if !isNamedBy(writer, secret) {
		return fmt.Errorf("%w: its secret is not that of writer %s", errJournalForeign, writer)
	}
	return s.authenticate(ctx, secret)
}
