package frontend

import (
	"bytes"

	"github.com/sallyport/sallyport/proxy"
)

// noteHost counts the Host fields (RFC 9112 section 3.2) and keeps what is wrong with the
// value: a uri-host, which may be empty, and a port. The value decides nothing, because
// the request target names the host, and what is wrong with the target is reported first;
// an invalid value marks a request that others could read as another.
func (h *head) noteHost(value []byte) *proxy.Refusal {
	if h.host++; h.host > 1 {
		return malformed("there are two Host fields")
	}
	name, port := value, []byte(nil)
	if i := bytes.LastIndexByte(value, ':'); i >= 0 && bytes.IndexByte(value[i:], ']') < 0 {
		name, port = value[:i], value[i+1:]
	}
	for _, c := range port {
		if c < '0' || c > '9' {
			h.hostProblem = "the Host field's port is not a number"
		}
	}
	literal := len(name) > 1 && name[0] == '[' && name[len(name)-1] == ']'
	if literal {
		name = name[1 : len(name)-1]
	}
	for _, c := range name {
		if !hostBytes[c] && !(literal && c == ':') {
			h.hostProblem = "the Host field is not a host name and a port"
		}
	}
	return nil
}

// hostBytes are the bytes of a reg-name (RFC 3986 section 3.2.2).
var hostBytes = func() (t [256]bool) {
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-0x20] = true, true
	}
	for _, c := range "-._~%!$&'()*+,;=" {
		t[c] = true
	}
	return t
}()

// parseConnection reads a list of connection options (RFC 9110 section 7.6.1).
func (h *head) parseConnection(value []byte) *proxy.Refusal {
	for option := range bytes.SplitSeq(value, []byte{','}) {
		option = trimOWS(option)
		switch {
		case len(option) == 0:
		case is(option, "close"):
			h.close = true
		case is(option, "keep-alive"):
			h.keep = true
		case is(option, "upgrade"):
			h.upgrade = true
		case !isToken(option):
			return malformed("Connection holds something that is not a token")
		}
	}
	return nil
}

// parseLength reads a Content-Length: plain decimal digits, once (RFC 9112 section 6.3
// rule 5, RFC 9110 section 8.6). A list of equal values could be repaired; a client that
// sends one is attacked or attacking.
func (h *head) parseLength(value []byte) *proxy.Refusal {
	if h.has.length {
		return malformed("there are two Content-Length fields")
	}
	h.has.length = true
	if len(value) == 0 || len(value) > 18 || len(value) > 1 && value[0] == '0' {
		return malformed("Content-Length is not a plain decimal number")
	}
	for _, c := range value {
		if c < '0' || c > '9' {
			return malformed("Content-Length is not a plain decimal number")
		}
		h.length = h.length*10 + int64(c-'0')
	}
	return nil
}

// parseCoding reads a Transfer-Encoding: chunked and nothing else (RFC 9112
// section 6.1).
func (h *head) parseCoding(value []byte) *proxy.Refusal {
	if h.has.coding {
		return malformed("there are two Transfer-Encoding fields")
	}
	h.has.coding = true
	if !is(value, "chunked") {
		return malformed("Transfer-Encoding is something other than chunked")
	}
	h.chunked = true
	return nil
}

// checkFraming refuses heads whose body has two possible ends (RFC 9112 sections 6.1 and
// 6.3 rule 3), and makes the checks that need the whole head.
func (h *head) checkFraming() *proxy.Refusal {
	connect := string(h.method) == "CONNECT"
	switch {
	case h.has.coding && h.has.length:
		return malformed("both Transfer-Encoding and Content-Length are present")
	case h.has.coding && h.minor == 0:
		return malformed("an HTTP/1.0 request has a Transfer-Encoding")
	case connect && (h.chunked || h.length > 0):
		// RFC 9110 section 9.3.6: a CONNECT has no content; what follows it is the tunnel's.
		return malformed("a CONNECT has a body")
	case connect && h.has.expect:
		return malformed("a CONNECT has an Expect field")
	case !connect && h.minor == 1 && h.host == 0:
		return malformed("an HTTP/1.1 request has no Host field") // RFC 9112 section 3.2
	}
	return nil
}

// body reports whether content follows the head.
func (h *head) body() bool { return h.chunked || h.length > 0 }

// persistent reports whether the client wants to send another request on the
// connection (RFC 9112 section 9.3).
func (h *head) persistent() bool {
	if h.close {
		return false
	}
	return h.minor == 1 || h.keep
}
