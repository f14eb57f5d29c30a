package database

import (
	"strings"
	"time"
	"unicode/utf8"
)

// IsText reports whether PostgreSQL accepts s as a text: valid UTF-8 without NUL (other
// texts fail with SQLSTATE 22021), and at most max bytes long.
func IsText(s string, max int) bool {
	return len(s) <= max && utf8.ValidString(s) && !strings.Contains(s, "\x00")
}

// Timestamp returns t as a timestamptz stores it: UTC, in whole microseconds. PostgreSQL
// would round.
func Timestamp(t time.Time) time.Time { return t.Truncate(time.Microsecond).UTC() }
