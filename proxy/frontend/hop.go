package frontend

import (
	"net/http"
	"strconv"
	"strings"
)

// isHop reports whether a field, by its canonical name, is between two
// neighbors only (RFC 9110 section 7.6.1), or between a client and its proxy:
// every Proxy- field is, standard or not.
func isHop(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings":
		return true
	}
	return strings.HasPrefix(name, "Proxy-")
}

// dropNominated removes the fields that a Connection field names.
func dropNominated(header http.Header, connection string) {
	for option := range strings.SplitSeq(connection, ",") {
		if option = strings.Trim(option, " \t"); option != "" {
			delete(header, http.CanonicalHeaderKey(option))
		}
	}
}

// addVia puts this proxy at the end of Via, in one line with those before it.
func addVia(header http.Header, minor int, pseudonym string) {
	own := "1." + strconv.Itoa(minor) + " " + pseudonym
	if before := header["Via"]; len(before) > 0 {
		own = strings.Join(before, ", ") + ", " + own
	}
	header["Via"] = []string{own}
}

// isFieldValue reports whether a value can stand in a head (RFC 9110 section 5.5).
func isFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x20 && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
