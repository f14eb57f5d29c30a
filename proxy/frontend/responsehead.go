package frontend

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

func (w *response) chooseFraming() {
	length, known := contentLength(w.header)
	names := trailerNames(w.header)
	w.length = -1
	switch {
	case w.status == http.StatusNoContent:
		// RFC 9110 section 8.6: no Content-Length in a 204.
		w.framing = noContent
	case w.status == http.StatusNotModified || w.method == http.MethodHead:
		w.framing = noContent
		if known {
			w.length = length // of what a GET would have got
		}
	case known && len(names) == 0:
		w.framing, w.length = byLength, length
	case w.c.minor == 1:
		w.framing, w.trailer = byChunks, names
	default:
		w.framing, w.close = byClose, true
	}
}

// contentLength reads the length that the forwarder announced, if it is one.
func contentLength(header http.Header) (int64, bool) {
	values := header["Content-Length"]
	if len(values) != 1 {
		return 0, false
	}
	n, err := strconv.ParseUint(values[0], 10, 63)
	return int64(n), err == nil
}

// trailerNames are the announced trailer fields that may be one (RFC 9110
// section 6.5.1).
func trailerNames(header http.Header) (names []string) {
	for _, list := range header["Trailer"] {
		for name := range strings.SplitSeq(list, ",") {
			if name = http.CanonicalHeaderKey(strings.Trim(name, " \t")); isTrailer(name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// isTrailer reports whether a field may be sent behind the content.
func isTrailer(name string) bool {
	switch {
	case !isToken([]byte(name)), isHop(name), isOurs(name):
		return false
	case name == "Content-Length", name == "Host", name == "Set-Cookie", strings.HasSuffix(name, "Authenticate"):
		return false
	}
	return true
}

// appendTrailer writes the trailer fields, each line with its CRLF: those that
// were announced, and those that came without an announcement, which the
// forwarder marks with [http.TrailerPrefix].
func (w *response) appendTrailer(b []byte) []byte {
	trailer := make(http.Header, len(w.trailer))
	for _, name := range w.trailer {
		if values := w.header[name]; len(values) > 0 {
			trailer[name] = values
		}
	}
	for key, values := range w.header {
		if name, ok := strings.CutPrefix(key, http.TrailerPrefix); ok && isTrailer(http.CanonicalHeaderKey(name)) {
			trailer[http.CanonicalHeaderKey(name)] = values
		}
	}
	for name, values := range trailer {
		for _, value := range values {
			if isFieldValue(value) {
				b = append(append(append(append(b, name...), ": "...), value...), "\r\n"...)
			}
		}
	}
	return b
}

// isOurs reports whether a field is one that only this proxy sends to its clients. A
// target must not be able to forge it.
func isOurs(name string) bool { return strings.HasPrefix(name, "Sallyport-") }

func (w *response) appendHead(b []byte) []byte {
	for _, list := range w.header["Connection"] {
		dropNominated(w.header, list)
	}
	addVia(w.header, 1, w.c.server.config.Pseudonym)
	b = append(b, "HTTP/1."...)
	b = strconv.AppendInt(b, int64(w.c.minor), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(w.status), 10)
	b = append(b, ' ')
	b = append(b, http.StatusText(w.status)...)
	b = w.appendFields(b, w.header)
	switch w.framing {
	case byChunks:
		b = append(b, "\r\nTransfer-Encoding: chunked"...)
		if len(w.trailer) > 0 {
			b = appendField(b, "Trailer", strings.Join(w.trailer, ", "))
		}
	case byLength, noContent:
		if w.length >= 0 {
			b = append(b, "\r\nContent-Length: "...)
			b = strconv.AppendInt(b, w.length, 10)
		}
	}
	switch {
	case w.close:
		b = append(b, "\r\nConnection: close"...)
	case w.c.minor == 0:
		b = append(b, "\r\nConnection: keep-alive"...)
	}
	return append(b, "\r\n\r\n"...)
}

// appendFields writes what may go to the client in the head.
func (w *response) appendFields(b []byte, header http.Header) []byte {
	for name, values := range header {
		switch {
		case slices.Contains(w.trailer, name),
			isHop(name) && !w.isProxyStatus(name, values), isOurs(name), name == "Content-Length", !isToken([]byte(name)):
			continue
		}
		for _, value := range values {
			if isFieldValue(value) {
				b = appendField(b, name, value)
			}
		}
	}
	return b
}

// isProxyStatus accepts the Proxy-Status of other intermediaries (RFC 9209 section 2),
// but no value with this proxy's name.
func (w *response) isProxyStatus(name string, values []string) bool {
	if name != "Proxy-Status" {
		return false
	}
	return !slices.ContainsFunc(values, func(v string) bool {
		return strings.Contains(strings.ToLower(v), strings.ToLower(w.c.server.config.Name))
	})
}
