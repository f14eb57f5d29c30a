package destination

import "strings"

// ParseAbsolute reads the absolute-form of a request to a proxy (RFC 9112
// section 3.2.2): an http:// URL without user information and fragment. The
// port is 80 where none is written. Errors are of type *[Error].
//
// pathAndQuery is what to send to the origin (RFC 9112 section 3.2.1). It begins
// with "/", is printable ASCII without spaces, and its path is normalised as in
// RFC 3986 section 6.2.2, so that a policy that reads it cannot be walked
// around: escapes of unreserved characters are decoded, the others are in upper
// case, and segments of one dot are removed (RFC 3986 section 5.2.4; apt requests
// /path/./Packages). A path with segments of two dots is refused, and so is one
// whose dots stand beside an escaped slash or a parameter. The query is left as
// it is.
func ParseAbsolute(s string) (t Target, pathAndQuery string, err error) {
	rest, err := cutScheme(s)
	if err != nil {
		return Target{}, "", err
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, rest := rest[:end], rest[end:]
	if authority == "" {
		return Target{}, "", problem(ProblemHost, "the URL has no host: write http://host/path")
	}
	if err := checkAuthorityBytes(authority); err != nil {
		return Target{}, "", err
	}
	host, port, ok, err := splitAuthority(authority)
	if err != nil {
		return Target{}, "", err
	}
	if !ok {
		port = "80"
	}
	if t, err = build("http", host, port); err != nil {
		return Target{}, "", err
	}
	if pathAndQuery, err = parsePath(rest); err != nil {
		return Target{}, "", err
	}
	return t, pathAndQuery, nil
}

// cutScheme removes http://, whose case does not matter (RFC 3986 section 3.1).
func cutScheme(s string) (string, error) {
	const http = "http://"
	if len(s) >= len(http) && strings.EqualFold(s[:len(http)], http) {
		return s[len(http):], nil
	}
	scheme, _, ok := strings.Cut(s, "://")
	switch {
	case ok && strings.EqualFold(scheme, "https"):
		return "", problem(ProblemScheme, "an https:// target goes through CONNECT: the client has to open a tunnel to host:443")
	case ok && isScheme(scheme):
		return "", problem(ProblemScheme, "scheme %s is not http: use CONNECT host:port", quote(scheme))
	}
	return "", problem(ProblemForm, "%s is not an absolute URL: a request to a proxy names http://host/path, or is a CONNECT to host:port", quote(withoutUserinfo(s)))
}

// isScheme is RFC 3986 section 3.1.
func isScheme(s string) bool {
	for i := range len(s) {
		c := s[i] | 0x20
		letter := 'a' <= c && c <= 'z'
		if !letter && (i == 0 || !strings.ContainsRune("0123456789+-.", rune(s[i]))) {
			return false
		}
	}
	return s != ""
}

// withoutUserinfo keeps a password out of a message about a URL that could not
// be read as one.
func withoutUserinfo(s string) string {
	if at := strings.LastIndexByte(s, '@'); at >= 0 {
		return s[at+1:]
	}
	return s
}

// parsePath checks and normalises everything behind the authority.
func parsePath(s string) (string, error) {
	query := strings.IndexByte(s, '?')
	if query < 0 {
		query = len(s)
	}
	if err := checkPathBytes(s, query); err != nil {
		return "", err
	}
	path, tail := removeSingleDots(normalise(s[:query])), s[query:]
	if hasDotSegment(path) {
		return "", problem(ProblemPath, "path %s has .. segments, or dots beside an escaped slash or a parameter: write the path that they lead to", quote(path))
	}
	switch path {
	case "":
		return "/" + tail, nil
	case s[:query]:
		return s, nil // nothing to normalise, nothing to allocate
	}
	return path + tail, nil
}

// checkPathBytes refuses what cannot be sent on as it is. It is more lenient
// than RFC 3986 and as lenient as browsers (which send | and [ ] unescaped), but
// for the backslash in a path, which some servers take for a slash.
func checkPathBytes(s string, query int) error {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c < 0x21 || c == 0x7f:
			return problem(ProblemByte, "the path or query holds a space or a control byte: write it as a percent-escape")
		case c >= 0x80:
			return problem(ProblemNotASCII, "the path or query is not ASCII: write percent-escapes of its UTF-8")
		case c == '#':
			return problem(ProblemPath, "a fragment is not sent in a request: leave out the # and what follows it")
		case c == '\\' && i < query, c == '"', c == '<', c == '>':
			return problem(ProblemByte, "the path or query holds %s: write it as a percent-escape", quote(string(rune(c))))
		case c == '%':
			if i+2 >= len(s) || unhex(s[i+1]) < 0 || unhex(s[i+2]) < 0 {
				return problem(ProblemByte, "the path or query holds a %% without two hexadecimal digits behind it: write %%25")
			}
		}
	}
	return nil
}

// normalise decodes escapes of unreserved characters and writes the others in
// upper case (RFC 3986 sections 6.2.2.1 and 6.2.2.2). Its escapes are well
// formed.
func normalise(path string) string {
	if strings.IndexByte(path, '%') < 0 {
		return path
	}
	out := make([]byte, 0, len(path))
	for i := 0; i < len(path); i++ {
		if path[i] != '%' {
			out = append(out, path[i])
			continue
		}
		c := byte(unhex(path[i+1])<<4 | unhex(path[i+2]))
		if unreserved(c) {
			out = append(out, c)
		} else {
			const digits = "0123456789ABCDEF"
			out = append(out, '%', digits[c>>4], digits[c&15])
		}
		i += 2
	}
	return string(out)
}

// removeSingleDots removes the segments "." of a normalised path. The number of
// segments halves with each pass, so the time is bounded by n log n.
func removeSingleDots(path string) string {
	for strings.Contains(path, "/./") {
		path = strings.ReplaceAll(path, "/./", "/")
	}
	if strings.HasSuffix(path, "/.") {
		path = path[:len(path)-1]
	}
	return path
}

// HasPath reports whether an absolute-form target has anything behind its
// authority. An OPTIONS request without it concerns the server as a whole (RFC
// 9112 section 3.2.4). s is a target that [ParseAbsolute] accepts.
func HasPath(s string) bool {
	_, rest, _ := strings.Cut(s, "://")
	return strings.ContainsAny(rest, "/?#")
}

// hasDotSegment reports whether any segment of a normalised path is "." or
// "..". An escaped slash or backslash ends a segment too, and so does the ";" of
// a parameter: there are servers that decode the one and drop the other before
// they resolve dots (CVE-2021-41773, CVE-2020-5902).
func hasDotSegment(path string) bool {
	start := 0
	for i := 0; i <= len(path); i++ {
		width := 0
		switch {
		case i == len(path) || path[i] == '/' || path[i] == ';':
			width = 1
		case path[i] == '%' && (path[i+1:i+3] == "2F" || path[i+1:i+3] == "5C" || path[i+1:i+3] == "3B"):
			width = 3
		default:
			continue
		}
		if segment := path[start:i]; segment == "." || segment == ".." {
			return true
		}
		i += width - 1
		start = i + 1
	}
	return false
}

// unreserved is RFC 3986 section 2.3.
func unreserved(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9',
		c == '-', c == '.', c == '_', c == '~':
		return true
	}
	return false
}

// unhex returns the value of a hexadecimal digit, or -1.
func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
