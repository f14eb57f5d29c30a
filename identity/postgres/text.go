package postgres

import (
	"strings"
	"time"
	"unicode/utf8"
)

// maxText bounds a text that is kept, in bytes; the tables check the same.
// PostgreSQL refuses a text of about 2,700 bytes under an index (SQLSTATE
// 54000), so that one must not get as far.
const maxText = 1000

// isUUID reports whether s is a UUID as it is written everywhere inside: bare
// and lower-case. PostgreSQL accepts several other spellings, under which it
// would not be found again.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}

// isText reports whether PostgreSQL takes s as a text: valid UTF-8 without NUL
// (it answers others with SQLSTATE 22021), and not too long.
func isText(s string, most int) bool {
	return len(s) <= most && utf8.ValidString(s) && !strings.Contains(s, "\x00")
}

// stamp is the time as PostgreSQL keeps it. PostgreSQL would round.
func stamp(t time.Time) time.Time { return t.Truncate(time.Microsecond).UTC() }
