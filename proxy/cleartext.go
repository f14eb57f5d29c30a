package proxy

import "bytes"

// isRequest reports whether the tunnel's first bytes begin an HTTP request, and
// then leaves the client's connection open for it.
func (t *tunnel) isRequest() bool {
	is, _ := requestStart(t.early)
	if !t.mayBeRequest || !is {
		return false
	}
	t.mu.Lock()
	stopped := t.cause != "" || t.serverFirst
	if !stopped {
		t.cause, t.leavesClient = CauseHTTPRequest, true
	}
	t.mu.Unlock()
	return !stopped
}

// maxMethod bounds the method of a request inside a tunnel.
const maxMethod = 20

// requestStart reports whether b begins an HTTP request in origin-form or
// absolute-form (RFC 9112 section 3.2), and if not, whether it could still become
// one. The greetings of SSH, SMTP, FTP and HTTP/2 never do.
func requestStart(b []byte) (is, may bool) {
	method, rest, found := bytes.Cut(b, []byte{' '})
	if len(method) > maxMethod || found && len(method) == 0 {
		return false, false
	}
	for _, c := range method {
		if c < 'A' || c > 'Z' {
			return false, false
		}
	}
	if !found {
		return false, true
	}
	forms := []string{"/", "http://"}
	if string(method) == "OPTIONS" {
		forms = append(forms, "* ")
	}
	for _, form := range forms {
		n := min(len(rest), len(form))
		if string(rest[:n]) == form[:n] {
			is, may = is || n == len(form), may || n < len(form)
		}
	}
	return is, may && !is
}
